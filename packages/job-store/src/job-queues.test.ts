import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRedis } from '../test/redis-server.ts'
import { benchModel, openShareBench } from '../test/share-bench.ts'
import { toQueuePriority } from './queue-priority.ts'
import { createRedis, waitUntilReady } from './redis.ts'
import type { RedisConnection } from './redis.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let subscriber: RedisConnection
beforeAll(async () => {
  server = await startRedis()
  subscriber = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await waitUntilReady(subscriber, 60_000)
})
afterAll(async () => {
  subscriber.disconnect()
  await server.stop()
})

test('workers are told of a job unless an earlier one of its owner waits, which they take first', async () => {
  const bench = openShareBench(server.url, '{told}')
  const told: string[] = []
  subscriber.on('message', (_channel, message) => told.push(message))
  await subscriber.subscribe(bench.store.keys.waitingChannel)
  const add = async (owner: string): Promise<string> => {
    const record = bench.newRecord(owner)
    await bench.create(record)
    await bench.queues.add(benchModel, record.id, { owner, priority: toQueuePriority(record) })
    return record.id
  }
  /** What workers have been told since the last call. */
  const read = async (): Promise<string[]> => {
    await bench.redis.publish(bench.store.keys.waitingChannel, 'end')
    await expect.poll(() => told.at(-1)).toBe('end')
    return told.splice(0).slice(0, -1)
  }
  const [a, b] = ['a', 'b'].map((owner) => `${benchModel}\n${owner}`)
  try {
    await add('a')
    expect(await read()).toEqual([a])
    await add('a')
    await add('b')
    await add('b')
    expect(await read()).toEqual([b])
    // The line of `a` is empty again.
    await bench.take()
    await bench.take()
    await bench.take()
    await add('a')
    expect(await read()).toEqual([a])

    // A job that never came into the queue hides no other: here the api was killed between the record and the queue.
    await bench.take()
    await bench.take()
    await bench.create(bench.newRecord('a'))
    await add('a')
    expect(await read()).toEqual([a])
  } finally {
    await bench.close()
  }
})
