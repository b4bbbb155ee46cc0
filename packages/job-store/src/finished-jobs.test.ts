import { Queue, UnrecoverableError, Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { generateQueueName, webhookMessageId, webhookQueueName } from '@easel/contract'
import { startRedis } from '../test/redis-server.ts'
import { JobQueues } from './job-queues.ts'
import { type RedisConnection, createRedis, waitUntilReady } from './redis.ts'
import { createWebhookOutbox } from './webhook-outbox.ts'

const prefix = '{test}'
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let blocking: RedisConnection

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  blocking = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await waitUntilReady(redis, 5000)
})
afterAll(async () => {
  redis.disconnect()
  blocking.disconnect()
  await server.stop()
})

/** Lets BullMQ finish two jobs made by `add` and says which are left when the first finished more than an hour before the second. */
async function leftOf(
  queueName: string,
  outcome: 'completed' | 'failed',
  add: (id: string) => Promise<unknown>,
  toQueueId: (id: string) => string = (id) => id,
): Promise<[string, string]> {
  const queue = new Queue(queueName, { connection: redis, prefix })
  const process = async (): Promise<void> => {
    await Promise.resolve()
    if (outcome === 'failed') throw new UnrecoverableError('no use')
  }
  const worker = new Worker(queueName, process, { connection: blocking, prefix })
  worker.on('error', () => {})
  const [old, recent] = [uuidv7(), uuidv7()]
  const stateOf = async (id: string): Promise<string> => await queue.getJobState(toQueueId(id))
  await add(old)
  await expect.poll(() => stateOf(old), { timeout: 60_000 }).toBe(outcome)
  // Makes it look as if that was an hour and a second ago.
  await redis.zadd(queue.toKey(outcome), Date.now() - 3_601_000, toQueueId(old))
  await add(recent)
  await expect.poll(() => stateOf(recent), { timeout: 60_000 }).toBe(outcome)
  const left: [string, string] = [await stateOf(old), await stateOf(recent)]
  await worker.close()
  await queue.close()
  return left
}

test.each(['completed', 'failed'] as const)('a job that BullMQ has %s is forgotten by it after an hour', async (outcome) => {
  const queues = new JobQueues({ redis, prefix, onError: () => {} })
  expect(await leftOf(generateQueueName(`m-${outcome}`), outcome, (id) => queues.add(`m-${outcome}`, id))).toEqual(['unknown', outcome])
  await queues.close()
})

test.each(['completed', 'failed'] as const)('a webhook message that has %s is forgotten after an hour', async (outcome) => {
  const outbox = createWebhookOutbox({ redis, prefix, onError: () => {} })
  const add = async (id: string): Promise<void> =>
    await outbox.add({ id, webhook: 'https://example.com/', webhookEventsFilter: ['queued'] }, 'queued')
  expect(await leftOf(webhookQueueName, outcome, add, (id) => webhookMessageId(id, 'queued'))).toEqual(['unknown', outcome])
  await outbox.close()
})
