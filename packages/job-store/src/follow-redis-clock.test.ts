import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { startRedis } from '../test/redis-server.ts'
import { followRedisClock } from './follow-redis-clock.ts'
import { type RedisConnection, createRedis } from './redis.ts'

const prefix = '{easel}'
const hourMs = 3_600_000
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let skews: number[]
let refusals: string[]
beforeAll(async () => {
  server = await startRedis()
})
beforeEach(() => {
  skews = []
  refusals = []
})
afterEach(() => redis.disconnect())
afterAll(() => server.stop())

function follow(url: string, localNow?: () => number): () => number {
  redis = createRedis({ url, use: 'worker', onError: () => {} })
  const onRefusal = (error: Error): void => void refusals.push(error.message)
  return followRedisClock({ redis, prefix, localNow, onSkew: (skewMs) => skews.push(skewMs), onRefusal })
}
/** Redis answers in order: the first answer comes once the connection is ready and the clock is being measured, the second after that. */
async function untilMeasured(): Promise<void> {
  await redis.ping()
  await redis.ping()
}
/** How far a clock is from that of Redis, which runs on this machine, in ms. The machine's clock is read before and after it. */
function off(now: () => number): number {
  const before = Date.now()
  const instant = now()
  return Math.max(0, before - instant, instant - Date.now())
}

test.each([
  ['ahead', hourMs],
  ['behind', -hourMs],
])('a process whose clock is an hour %s gets the clock of Redis, and is told the difference', async (_, skewMs) => {
  const now = follow(server.url, () => Date.now() + skewMs)
  await expect.poll(() => off(now)).toBeLessThan(1000)
  expect(Number.isInteger(now())).toBe(true)
  expect(skews[0]).toBeGreaterThan(-skewMs - hourMs / 2)
  expect(skews[0]).toBeLessThan(-skewMs + hourMs / 2)
})

test('the difference is measured again when the connection to Redis is back', async () => {
  // Without the measurements that are made every few seconds. `expect.poll` lets the fake timer advance a little.
  vi.useFakeTimers({ toFake: ['setInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  let skewMs = 0
  let reads = 0
  const now = follow(server.url, () => {
    reads++
    return Date.now() + skewMs
  })
  // The first measurement reads the clock before and after it.
  await expect.poll(() => reads).toBe(2)
  skewMs = hourMs
  expect(off(now)).toBeGreaterThan(hourMs - 60_000)
  redis.disconnect(true)
  while (off(now) >= 1000) await nextTurn()
})

test('a process on the machine of Redis keeps its own clock, whether Redis answers or not', async () => {
  const here = follow(server.url)
  await untilMeasured()
  expect(off(here)).toBeLessThan(1000)
  redis.disconnect()
  const away = follow('redis://127.0.0.1:1')
  expect(off(away)).toBeLessThan(1000)
  expect([skews, refusals]).toEqual([[], []])
})

test('with a Redis user who may not ask for the time, a process keeps its own clock, and is told so once', async () => {
  const admin = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await admin.call('ACL', 'SETUSER', 'poor', 'on', '>secret', '~*', '+@all', '-time')
  const now = follow(server.url.replace('redis://', 'redis://poor:secret@'), () => Date.now() - hourMs)
  await expect.poll(() => refusals).toHaveLength(1)
  redis.disconnect(true)
  await untilMeasured()
  expect(off(now)).toBeGreaterThan(hourMs - 60_000)
  expect([refusals.length, skews]).toEqual([1, []])
  admin.disconnect()
})
