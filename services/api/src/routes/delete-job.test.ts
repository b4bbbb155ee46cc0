import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'bullmq'
import type { Job as QueueJob } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { JobFollower } from '../events/job-follower.ts'
import { sweepExpired } from '../maintenance/sweep-expired.ts'

let api: TestApi
let ahead = 0
let connection: RedisConnection
let holder: Worker
const alice = { 'X-API-Key': 'first-secret' }
const bob = { 'X-API-Key': 'second-secret' }
beforeAll(async () => {
  const env = { API_KEYS: 'alice:first-secret,bob:second-secret', RESULT_TTL: '0' }
  const webhooks = { WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_RETRY_DELAYS: '0,3600' }
  api = await startTestApi({ env: { ...env, ...webhooks }, now: () => Date.now() + ahead })
  connection = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  const { name } = api.deps.queues.of('tiny-scenes')
  holder = new Worker(name, null, { connection, prefix: api.deps.config.queuePrefix, autorun: false })
})
afterAll(async () => {
  await holder.close()
  connection.disconnect()
  await api.close()
})

async function submit(body: object = {}): Promise<string> {
  const response = await api.post('/v1/jobs', { prompt: 'p', ...body }, { 'Idempotency-Key': uuidv7(), ...alice })
  expect(response.status).toBe(202)
  return ((await response.json()) as Job).id
}
const remove = async (id: string, headers: Record<string, string> = alice): Promise<number> =>
  (await api.get(`/v1/jobs/${id}`, { method: 'DELETE', headers })).status
const pictures = async (): Promise<string[]> => await readdir(join(api.storageDir, 'images')).catch(() => [])
/** The keys in Redis that mention the job in their name, or in their value if that is a string, a list or a sorted set. */
async function traces(id: string): Promise<string[]> {
  const names = await api.deps.redis.keys('*')
  const found: string[] = []
  for (const name of names) {
    const type = await api.deps.redis.type(name)
    const value =
      type === 'zset'
        ? await api.deps.redis.zrange(name, 0, '-1')
        : type === 'list'
          ? await api.deps.redis.lrange(name, 0, -1)
          : type === 'string'
            ? await api.deps.redis.get(name)
            : ''
    // Streams are left out, because BullMQ trims its own log of queue events.
    if (name.includes(id) || JSON.stringify(value).includes(id)) found.push(name)
  }
  return found
}

/** Takes the job from the queue with a lock, as a worker does. */
async function hold(id: string): Promise<QueueJob> {
  for (;;) {
    const held = await holder.getNextJob('token', { block: false })
    if (held?.id === id) return held
  }
}

describe('DELETE /v1/jobs/{id}', () => {
  test('removes a job that succeeded, with its pictures, thumbnails, messages and every other trace, and then answers 404', async () => {
    // Nobody listens there, so the message waits for its next attempt.
    const id = await submit({ num_images_per_prompt: 2, webhook: 'http://127.0.0.1:9/', webhook_events_filter: ['queued', 'completed'] })
    await api.worker.succeed(id)
    await expect
      .poll(async () => (await api.get(`/v1/jobs/${id}/webhooks`, { headers: alice })).text(), { timeout: 60_000 })
      .toContain('refused')
    await expect.poll(async () => (await api.deps.outbox.counts()).sending).toBe(0)
    expect((await pictures()).length).toBe(4)
    expect((await traces(id)).length).toBeGreaterThan(4)
    expect(await remove(id)).toBe(204)
    expect(await pictures()).toEqual([])
    expect(await traces(id)).toEqual([])
    for (const path of ['', '/events', '/webhooks']) expect((await api.get(`/v1/jobs/${id}${path}`, { headers: alice })).status).toBe(404)
    expect((await api.get(`/images/${id}-0.png`)).status).toBe(404)
    expect(await remove(id)).toBe(404)
  })

  test('ends a waiting job, whose message is not sent', async () => {
    const id = await submit({ webhook: 'http://127.0.0.1:9/' })
    expect(await remove(id)).toBe(204)
    expect(await traces(id)).toEqual([])
    expect(await api.deps.queues.of('tiny-scenes').getJob(id)).toBeUndefined()
    expect(await api.deps.outbox.findUnsent(id, ['completed'])).toEqual([])
  })

  test('ends a running job: its followers hear of the end, and its worker finds nothing to end', async () => {
    const id = await submit()
    await api.worker.store.start(id, 'w')
    const subscriber = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
    // Without news of the end, it would wait longer than a test may take.
    const follower = new JobFollower({ store: api.worker.store, subscriber, pollIntervalMs: 3_600_000 })
    const followed = follower.waitForEnd(id, { timeoutMs: 3_600_000 })
    // Redis answers in order, so the follower's own subscription is ready after this.
    await subscriber.subscribe(api.worker.store.keys.endsChannel)
    expect(await remove(id)).toBe(204)
    // Hearing of the end, it reads the record, which may be gone by then.
    expect([undefined, 'canceled']).toContain((await followed)?.status)
    await follower.close()
    subscriber.disconnect()
    expect(await api.worker.store.end(id, { status: 'succeeded' })).toEqual({ result: 'missing' })
  })

  test('removes the id from the queue even if a worker has not released it yet', async () => {
    const id = await submit()
    const held = await hold(id)
    await api.worker.succeed(id)
    const removed = remove(id)
    await expect.poll(() => api.worker.store.get(id)).toBeUndefined()
    await held.moveToCompleted('succeeded', 'token', false)
    expect(await removed).toBe(204)
    expect(await traces(id)).toEqual([])
  })

  test('removes the message about the end too, as soon as the worker has released the job', async () => {
    const id = await submit({ webhook: 'http://127.0.0.1:9/' })
    const held = await hold(id)
    await api.worker.store.start(id, 'w')
    expect(await remove(id)).toBe(204)
    // As the worker does.
    held.opts.removeOnComplete = true
    await held.moveToCompleted('canceled', 'token', false)
    await expect.poll(() => traces(id), { timeout: 60_000 }).toEqual([])
  })

  test('is for the owner only, and answers 404 for a job that does not exist', async () => {
    const id = await submit()
    expect([await remove(id, bob), await remove(id, {}), await remove(uuidv7()), await remove('nonsense')]).toEqual([404, 401, 404, 404])
    expect((await api.get(`/v1/jobs/${id}`, { headers: alice })).status).toBe(200)
  })
})

test('RESULT_TTL=0 keeps jobs and pictures for ever', async () => {
  const id = await submit()
  await api.worker.succeed(id)
  ahead = 20 * 365 * 86_400_000
  expect(await sweepExpired(api.deps)).toBe(0)
  expect((await api.get(`/v1/jobs/${id}`, { headers: alice })).status).toBe(200)
  expect((await api.get(`/images/${id}-0.png`)).status).toBe(200)
  expect((await api.get(`/v1/jobs/${uuidv7()}`, { headers: alice })).status).toBe(404)
  ahead = 0
})
