/**
 * Owns the one system program that we need and npm does not provide: a Redis-compatible server.
 *
 * Invariant: nothing is installed when a server or Docker is already there. Knows nothing about running the server. Runs in the demo, start
 * and test scripts.
 */
import { findDocker, findRedisServer } from '@easel/redis-server'
import { aptScript, installProgram } from './install-program.ts'
import type { Program } from './install-program.ts'

/** Newer releases of the distributions have Valkey, older ones only Redis. */
const redisServer: Program = {
  name: 'a Redis server',
  scripts: {
    'apt-get': aptScript('redis-server'),
    dnf: 'dnf install -y -q valkey || dnf install -y -q redis',
    apk: 'apk add --no-progress valkey || apk add --no-progress redis',
  },
}

/** Returns when `startRedis` has something to start; throws one sentence that says what to install. */
export function ensureRedisServer(): void {
  if (findRedisServer() !== undefined) return
  const failure = installProgram(redisServer)
  if (findRedisServer() !== undefined || findDocker() !== undefined) return
  throw new Error(
    `Expected a Redis server, got none and ${failure ?? 'the package brought none'}: install valkey-server or redis-server, start Docker, ` +
      'or (for demo and start) point REDIS_URL at a running one.',
  )
}
