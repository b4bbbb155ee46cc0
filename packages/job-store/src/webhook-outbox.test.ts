import { Queue, Worker } from 'bullmq'
import type { Processor } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { generateQueueName, webhookMessageId, webhookQueueName } from '@easel/contract'
import type { WebhookEventName, WebhookJobData } from '@easel/contract'
import { startRedis } from '../test/redis-server.ts'
import { JobQueues } from './job-queues.ts'
import type { GenerateJobData } from './job-queues.ts'
import { type RedisConnection, createRedis } from './redis.ts'
import { createWebhookOutbox } from './webhook-outbox.ts'
import type { WebhookOutbox } from './webhook-outbox.ts'

const prefix = '{test}'
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let queues: JobQueues
let outbox: WebhookOutbox
let webhooks: Queue<WebhookJobData>
const workers: Worker[] = []

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  queues = new JobQueues({ redis, prefix, onError: () => {} })
  outbox = createWebhookOutbox({ redis, prefix, onError: () => {} })
  webhooks = new Queue(webhookQueueName, { connection: redis, prefix })
})
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.close()))
})
afterAll(async () => {
  await Promise.all([queues.close(), outbox.close(), webhooks.close()])
  redis.disconnect()
  await server.stop()
})

function startWorker(model: string, processor: Processor<GenerateJobData>): void {
  const worker = new Worker<GenerateJobData>(generateQueueName(model), processor, { connection: redis, prefix })
  worker.on('error', () => {})
  workers.push(worker)
}

const stateOf = async (id: string, event: WebhookEventName = 'completed'): Promise<string | undefined> =>
  (await webhooks.getJob(webhookMessageId(id, event)))?.getState()

describe('the message about the end of a job', () => {
  test('waits while its job waits, and is queued by Redis when the job succeeds', async () => {
    const id = uuidv7()
    await queues.addWithWebhook('ok', id, { priority: 5 })
    expect(await stateOf(id)).toBe('waiting-children')
    expect(await outbox.redeliver(id, 'completed')).toBe('not_due')
    startWorker('ok', async () => {})
    await expect.poll(() => stateOf(id)).toBe('waiting')
    expect((await webhooks.getJob(webhookMessageId(id, 'completed')))?.data).toEqual({ jobId: id, event: 'completed' })
  })

  test('is queued when the job fails for good, and not after a failure that is tried again', async () => {
    const id = uuidv7()
    const states: (string | undefined)[] = []
    startWorker('bad', async () => {
      states.push(await stateOf(id))
      throw new Error('no')
    })
    await queues.addWithWebhook('bad', id, { priority: 5, attempts: 2, backoff: 0 })
    await expect.poll(() => stateOf(id)).toBe('waiting')
    expect(states).toEqual(['waiting-children', 'waiting-children'])
  })

  test('is queued when the waiting job is removed', async () => {
    const id = uuidv7()
    await queues.addWithWebhook('removed', id, { priority: 5 })
    expect(await queues.remove('removed', id)).toBe(true)
    expect(await stateOf(id)).toBe('waiting')
  })

  test('stays one message when the job is added again before, during or after its run', async () => {
    const id = uuidv7()
    await queues.addWithWebhook('again', id, { priority: 5 })
    await queues.addWithWebhook('again', id, { priority: 5 })
    startWorker('again', async () => {
      await queues.addWithWebhook('again', id, { priority: 5 })
    })
    await expect.poll(() => stateOf(id)).toBe('waiting')
    await queues.addWithWebhook('again', id, { priority: 5 })
    expect(await stateOf(id)).toBe('waiting')
    expect((await webhooks.getJob(webhookMessageId(id, 'completed')))?.attemptsMade).toBe(0)
  })

  test('is queued for a job that Redis has lost, once the job is added again', async () => {
    const id = uuidv7()
    await queues.addWithWebhook('lost', id, { priority: 5 })
    // This is how it looks when Redis has lost its latest writes: the child is gone, and the message still waits for it.
    await redis.del(queues.of('lost').toKey(id))
    await redis.zrem(queues.of('lost').toKey('prioritized'), id)
    expect(await queues.findMissing(['ok', 'lost'], [id])).toEqual([id])
    await queues.addWithWebhook('lost', id, { priority: 5 })
    expect(await queues.findMissing(['ok', 'lost'], [id])).toEqual([])
    startWorker('lost', async () => {})
    await expect.poll(() => stateOf(id)).toBe('waiting')
  })
})

describe('messages about other events', () => {
  const webhook = 'https://example.com/hook'

  test('are added only for jobs with a webhook that asked for the event', async () => {
    const [none, other, wanted] = [uuidv7(), uuidv7(), uuidv7()]
    await outbox.add({ id: none }, 'queued')
    await outbox.add({ id: other, webhook }, 'queued')
    await outbox.add({ id: wanted, webhook, webhookEventsFilter: ['queued'] }, 'queued')
    await outbox.add({ id: wanted, webhook, webhookEventsFilter: ['queued'] }, 'queued')
    expect([await stateOf(none, 'queued'), await stateOf(other, 'queued'), await stateOf(wanted, 'queued')]).toEqual([
      undefined,
      undefined,
      'waiting',
    ])
  })

  test('are one message for many steps, sent after a while, when they are about progress', async () => {
    const record = { id: uuidv7(), webhook, webhookEventsFilter: ['progress' as const] }
    const before = await outbox.count()
    for (let step = 0; step < 20; step++) await outbox.add(record, 'progress')
    expect(await outbox.count()).toBe(before + 1)
    expect(await stateOf(record.id, 'progress')).toBe('delayed')
  })

  test('that wait for their next attempt are sent immediately when they are to be redelivered', async () => {
    const record = { id: uuidv7(), webhook, webhookEventsFilter: ['progress' as const] }
    await outbox.add(record, 'progress')
    expect(await outbox.redeliver(record.id, 'progress')).toBe('added')
    expect(await stateOf(record.id, 'progress')).toBe('waiting')
  })
})

test('a message that was sent is remembered and not added again', async () => {
  const record = { id: uuidv7(), webhook: 'https://example.com/', webhookEventsFilter: ['started' as const] }
  await outbox.add(record, 'started')
  const settings = { backoffStrategy: () => -1 }
  const sender = new Worker<WebhookJobData>(webhookQueueName, async () => {}, { connection: redis, prefix, settings })
  workers.push(sender)
  await expect.poll(() => stateOf(record.id, 'started')).toBe('completed')
  await outbox.add(record, 'started')
  expect(await stateOf(record.id, 'started')).toBe('completed')
})

test('the message of the end is released when its job leaves the queue', async () => {
  const id = uuidv7()
  expect(await outbox.isReleased(id)).toBe(false)
  await queues.addWithWebhook('released', id, { priority: 5 })
  expect(await outbox.isReleased(id)).toBe(false)
  await queues.remove('released', id)
  expect(await outbox.isReleased(id)).toBe(true)
})

test('a job that BullMQ has given up counts as missing, and one that waits does not', async () => {
  const [ended, waits] = [uuidv7(), uuidv7()]
  await queues.add('given-up', ended, { attempts: 1, priority: 5 })
  startWorker('given-up', async () => {
    throw new Error('no')
  })
  await expect.poll(async () => (await queues.of('given-up').getJob(ended))?.getState()).toBe('failed')
  await queues.add('idle', waits, { priority: 5 })
  expect(await queues.findMissing(['given-up', 'idle'], [ended, waits])).toEqual([ended])
  expect(await queues.findMissing([], [waits])).toEqual([waits])
})
