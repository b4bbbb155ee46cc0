import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { findFreePort, startRedis } from '../test/redis-server.ts'
import type { RedisServer } from '../test/redis-server.ts'
import { isRedisUnavailable } from './redis-unavailable.ts'
import { createRedis, waitUntilReady } from './redis.ts'

let server: RedisServer
beforeAll(async () => {
  server = await startRedis()
})
afterAll(async () => {
  await server.stop()
})

const errorOf = async (promise: Promise<unknown>): Promise<unknown> =>
  await promise.then(
    () => undefined,
    (error: unknown) => error,
  )

test('a server that never was there, is frozen, refuses writes or has gone away is unavailable', async () => {
  const never = createRedis({ url: `redis://127.0.0.1:${await findFreePort()}`, use: 'request', onError: () => {} })
  expect(isRedisUnavailable(await errorOf(never.get('a')))).toBe(true)
  never.disconnect()

  const redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  await waitUntilReady(redis, 60_000)
  server.pause()
  expect(isRedisUnavailable(await errorOf(redis.get('a')))).toBe(true)
  server.resume()
  await redis.config('SET', 'maxmemory', '1')
  expect(isRedisUnavailable(await errorOf(redis.set('a', 'b')))).toBe(true)
  await redis.config('SET', 'maxmemory', '0')
  const lost = Promise.all(Array.from({ length: 100 }, () => errorOf(redis.blpop('nothing', 60))))
  await server.kill()
  expect((await lost).every((error) => isRedisUnavailable(error))).toBe(true)
  redis.disconnect()
  expect(isRedisUnavailable(await errorOf(redis.get('a')))).toBe(true)
})

test('an error in a command of our own does not mean that the server is unavailable', async () => {
  await server.restart()
  const redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  await waitUntilReady(redis, 60_000)
  await redis.set('text', 'x')
  expect(isRedisUnavailable(await errorOf(redis.lpush('text', 'y')))).toBe(false)
  expect(isRedisUnavailable(await errorOf(redis.call('NONSENSE')))).toBe(false)
  redis.disconnect()
  expect(isRedisUnavailable(new TypeError('x'))).toBe(false)
  expect(isRedisUnavailable(Object.assign(new Error('no such file'), { code: 'ENOENT', syscall: 'open' }))).toBe(false)
})

test('a broken socket does not mean that Redis is unavailable, whatever its code: it may be that of a client or of the object store', () => {
  for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNREFUSED', 'ENOTFOUND']) {
    for (const syscall of [undefined, 'read', 'connect']) {
      expect(isRedisUnavailable(Object.assign(new Error('aborted'), { code, syscall }))).toBe(false)
    }
  }
})

test('a cluster of which no node can be reached is unavailable', async () => {
  const redis = createRedis({ url: `redis://127.0.0.1:${await findFreePort()}`, cluster: true, use: 'request', onError: () => {} })
  onTestFinished(() => redis.disconnect())
  const told = await errorOf(redis.get('key'))
  expect([String(told), isRedisUnavailable(told)]).toEqual([expect.stringContaining('Cluster'), true])
})
