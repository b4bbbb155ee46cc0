export { findFreePort } from './find-free-port.ts'
export { findDocker, findRedisServer } from './find-redis-server.ts'
export { type RedisProcess, type RedisProcessOptions, isPortTaken, startRedisProcess } from './start-redis-process.ts'
