import { Queue, UnrecoverableError, Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { generateQueueName, webhookMessageId, webhookQueueName } from '@easel/contract'
import { startRedis } from '../test/redis-server.ts'
import { JobQueues } from './job-queues.ts'
import { type RedisConnection, createRedis } from './redis.ts'
import { createWebhookOutbox } from './webhook-outbox.ts'

const prefix = '{test}'
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

/** Lets BullMQ finish two jobs that `add` makes, the first more than an hour before the second, and returns the states they are in then. */
async function statesAfterAnHour(
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
  const worker = new Worker(queueName, process, { connection: redis, prefix })
  worker.on('error', () => {})
  const [old, recent] = [uuidv7(), uuidv7()]
  const stateOf = async (id: string): Promise<string> => await queue.getJobState(toQueueId(id))
  await add(old)
  await expect.poll(() => stateOf(old), { timeout: 60_000 }).toBe(outcome)
  // As if that had been an hour and a second ago.
  await redis.zadd(queue.toKey(outcome), Date.now() - 3_601_000, toQueueId(old))
  await add(recent)
  await expect.poll(() => stateOf(recent), { timeout: 60_000 }).toBe(outcome)
  const states: [string, string] = [await stateOf(old), await stateOf(recent)]
  await worker.close()
  await queue.close()
  return states
}

test.each(['completed', 'failed'] as const)('BullMQ forgets a job that has %s after an hour', async (outcome) => {
  const queues = new JobQueues({ redis, prefix, onError: () => {} })
  expect(await statesAfterAnHour(generateQueueName(`m-${outcome}`), outcome, (id) => queues.add(`m-${outcome}`, id))).toEqual([
    'unknown',
    outcome,
  ])
  await queues.close()
})

test.each(['completed', 'failed'] as const)('BullMQ forgets a webhook message that has %s after an hour', async (outcome) => {
  const outbox = createWebhookOutbox({ redis, prefix, onError: () => {} })
  const add = async (id: string): Promise<void> =>
    await outbox.add({ id, webhook: 'https://example.com/', webhookEventsFilter: ['queued'] }, 'queued')
  expect(await statesAfterAnHour(webhookQueueName, outcome, add, (id) => webhookMessageId(id, 'queued'))).toEqual(['unknown', outcome])
  await outbox.close()
})
