import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { startRedis } from '../test/redis-server.ts'
import { followRedisClock } from './follow-redis-clock.ts'
import { type RedisConnection, createRedis } from './redis.ts'

const prefix = '{easel}'
const hourMs = 3_600_000
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection | undefined
let skews: number[]
let refusals: string[]
beforeAll(async () => {
  server = await startRedis()
})
beforeEach(() => {
  skews = []
  refusals = []
})
afterEach(() => redis?.disconnect())
afterAll(() => server.stop())

function follow(url: string, localNow?: () => number): () => number {
  redis = createRedis({ url, use: 'worker', onError: () => {} })
  const onRefusal = (error: Error): void => void refusals.push(error.message)
  return followRedisClock({ redis, prefix, localNow, onSkew: (skewMs) => skews.push(skewMs), onRefusal })
}
/** Redis runs on this machine. How far from its clock, in ms. */
const off = (now: () => number): number => Math.abs(now() - Date.now())

test.each([
  ['ahead', hourMs],
  ['behind', -hourMs],
])('a process whose clock is %s has the clock of Redis, and is told how far it is off', async (_, skewMs) => {
  const now = follow(server.url, () => Date.now() + skewMs)
  await expect.poll(() => off(now)).toBeLessThan(1000)
  expect(Number.isInteger(now())).toBe(true)
  expect(skews).toHaveLength(1)
  expect(Math.abs((skews[0] ?? 0) + skewMs)).toBeLessThan(1000)
})

test('the difference is measured again when Redis is back', async () => {
  let skewMs = 0
  const now = follow(server.url, () => Date.now() + skewMs)
  await redis?.ping()
  skewMs = hourMs
  expect(off(now)).toBeGreaterThan(hourMs - 60_000)
  redis?.disconnect(true)
  await expect.poll(() => off(now), { timeout: 20_000 }).toBeLessThan(1000)
})

test('a process on the same machine keeps its own clock, whether Redis answers or not', async () => {
  const [here, away] = [follow(server.url), follow('redis://127.0.0.1:1')]
  expect(off(here)).toBeLessThan(1000)
  expect(off(away)).toBeLessThan(1000)
  expect([skews, refusals]).toEqual([[], []])
})

test('a Redis user who may not ask for the time leaves the process its own clock, and that is told once', async () => {
  const admin = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await admin.call('ACL', 'SETUSER', 'poor', 'on', '>secret', '~*', '+@all', '-time')
  const now = follow(server.url.replace('redis://', 'redis://poor:secret@'), () => Date.now() - hourMs)
  await expect.poll(() => refusals).toHaveLength(1)
  redis?.disconnect(true)
  await redis?.ping()
  expect(off(now)).toBeGreaterThan(hourMs - 60_000)
  expect([refusals.length, skews]).toEqual([1, []])
  admin.disconnect()
})
