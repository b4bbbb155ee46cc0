import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { startRedis } from '../test/redis-server.ts'
import { findRedisFault, judgeInfo, refuseFaultyRedis } from './redis-fault.ts'
import { createRedis, waitUntilReady } from './redis.ts'

const strict = { allowEvicting: false }
let master: Awaited<ReturnType<typeof startRedis>>
beforeAll(async () => {
  master = await startRedis()
})
afterAll(() => master.stop())

async function connectTo(args: string[]) {
  const server = await startRedis({ args })
  const redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  onTestFinished(async () => {
    redis.disconnect()
    await server.stop()
  })
  await waitUntilReady(redis, 60_000)
  return { redis, server }
}

test('a Redis as the documentation asks for has no fault', async () => {
  const { redis } = await connectTo([])
  expect(await findRedisFault(redis, strict)).toBeUndefined()
  await refuseFaultyRedis(redis, strict)
})

test.for(['allkeys-lru', 'volatile-lru', 'allkeys-random'])(
  'a Redis that evicts by %s is refused with the name of the setting, unless eviction is allowed',
  async (policy) => {
    const { redis } = await connectTo(['--maxmemory-policy', policy])
    expect(await findRedisFault(redis, strict)).toMatch(
      new RegExp(`maxmemory-policy to be noeviction.*got ${policy}.*ALLOW_EVICTING_REDIS`),
    )
    expect(await findRedisFault(redis, { allowEvicting: true })).toBeUndefined()
    await expect(refuseFaultyRedis(redis, strict)).rejects.toThrow('noeviction')
  },
)

test('a read-only replica is refused even where eviction is allowed, and a replica that accepts writes is not', async () => {
  const { redis } = await connectTo(['--replicaof', '127.0.0.1', String(master.port)])
  expect(await findRedisFault(redis, { allowEvicting: true })).toContain(`read-only replica of 127.0.0.1:${master.port}`)
  const { redis: writable } = await connectTo(['--replicaof', '127.0.0.1', String(master.port), '--replica-read-only', 'no'])
  expect(await findRedisFault(writable, strict)).toBeUndefined()
})

test.for([
  ['6.0.16', 'Expected Redis 6.2 or newer, or Valkey, got Redis 6.0.16'],
  ['5.0.7', 'Expected Redis 6.2 or newer, or Valkey, got Redis 5.0.7'],
  ['6.2.0', undefined],
  ['7.0.15', undefined],
  ['10.0.0', undefined],
] as const)('the fault of a Redis of version %s is: %s', ([version, fault]) => {
  expect(judgeInfo(`# Server\r\nredis_version:${version}\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n`, strict)).toBe(fault)
})

test('a Redis that does not answer is not refused, because the service waits for it', async () => {
  const redis = createRedis({ url: 'redis://127.0.0.1:1', use: 'worker', onError: () => {} })
  await expect(refuseFaultyRedis(redis, strict)).resolves.toBeUndefined()
  redis.disconnect()
})
