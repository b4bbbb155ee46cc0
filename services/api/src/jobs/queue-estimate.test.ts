import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { generateQueueName } from '@easel/contract'
import type { Job } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { createRedis } from '@easel/job-store'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { enqueueJob } from './enqueue-job.ts'
import { estimateQueue } from './queue-estimate.ts'

let api: TestApi
beforeEach(async () => {
  api = await startTestApi({ env: { MAX_QUEUED_JOBS: '0' } })
})
afterEach(() => api.close())

async function read(id: string): Promise<Job> {
  return (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
}
const position = async (id: string): Promise<number | null> => (await read(id)).queue_position

async function announceWorkers(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const load = { concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1 }
    await api.worker.registry.heartbeat({ id: `w${i}`, model: 'tiny-scenes', ready: true, ...load })
  }
}

/** Takes jobs as a worker does, in BullMQ's order. */
async function takeAll(count: number): Promise<string[]> {
  const taken: string[] = []
  const connection = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  const options = { connection, prefix: api.deps.config.queuePrefix, concurrency: 1 }
  const worker = new Worker<{ id: string }>(generateQueueName('tiny-scenes'), async ({ data }) => void taken.push(data.id), options)
  worker.on('error', () => {})
  await expect.poll(() => taken.length, { timeout: 10_000 }).toBe(count)
  await worker.close()
  connection.disconnect()
  return taken
}

describe('queue position', () => {
  test('is the order in which workers take the jobs, priorities included', async () => {
    const ids: string[] = []
    for (const priority of [0, 5, -3, 0, 5, 10]) ids.push((await api.submit({ priority })).id)
    const places = await Promise.all(ids.map(position))
    expect(places).toEqual([4, 2, 6, 5, 3, 1])
    const taken = await takeAll(ids.length)
    expect(taken).toEqual(ids.toSorted((a, b) => (places[ids.indexOf(a)] ?? 0) - (places[ids.indexOf(b)] ?? 0)))
  })

  test('moves up when a job ahead is taken or canceled, and is null once the job runs or has ended', async () => {
    const [first, second, third] = [(await api.submit()).id, (await api.submit()).id, (await api.submit()).id]
    expect([await position(first), await position(second), await position(third)]).toEqual([1, 2, 3])
    await api.post(`/v1/jobs/${second}/cancel`)
    expect([await position(second), await position(third)]).toEqual([null, 2])
    await api.worker.store.start(first, 'w')
    expect(await position(first)).toBeNull()
    await api.worker.succeed(first)
    expect(await read(first)).toMatchObject({ queue_position: null, eta_seconds: null })
  })

  test('a job that BullMQ put back to the front is next', async () => {
    const [first, second] = [(await api.submit()).id, (await api.submit()).id]
    const queue = api.deps.queues.of('tiny-scenes')
    await api.deps.redis.multi().zrem(queue.toKey('prioritized'), second).rpush(queue.toKey('wait'), second).exec()
    expect([await position(second), await position(first)]).toEqual([1, 2])
  })

  test('with 10,000 jobs waiting a read costs a handful of commands, and the place of the last is exact', async () => {
    const { deps } = api
    await announceWorkers(1)
    const { input } = (await api.deps.store.get((await api.submit()).id)) as JobRecord
    const records = Array.from({ length: 9_999 }, () => ({ id: uuidv7(), owner: 'public', createdAt: Date.now(), input, priority: 0 }))
    for (let i = 0; i < records.length; i += 500) {
      await Promise.all(
        records.slice(i, i + 500).map(async (record) => {
          await deps.store.create(record)
          await enqueueJob(deps, record)
        }),
      )
    }
    // What was read about the queue when the first job came is too old by then.
    await sleep(1100)
    const last = (await deps.store.get(records.at(-1)?.id ?? '')) as JobRecord
    const commands = async (): Promise<number> => Number(/total_commands_processed:(\d+)/.exec(await deps.redis.info('stats'))?.[1])
    const before = await commands()
    const { position: place, etaSeconds } = await estimateQueue(deps, last)
    const spent = (await commands()) - before
    expect(spent).toBeLessThan(150)
    const rank = await deps.redis.zrank(deps.queues.of('tiny-scenes').toKey('prioritized'), last.id)
    expect(place).toBe((rank ?? 0) + 1)
    expect(place).toBeGreaterThan(9_000)
    // Every job has 20 steps of 20 ms.
    expect(etaSeconds).toBe(Math.ceil((place ?? 0) * 0.4))
    // A page of these reads the front of the queue once.
    const beforePage = await commands()
    expect(await (await api.get('/v1/jobs?limit=100')).json()).toMatchObject({ jobs: { length: 100 } })
    expect((await commands()) - beforePage).toBeLessThan(1000)
    // The last to be submitted is told its place at once.
    expect((await api.submit()).queue_position).toBeGreaterThan(9_000)
  }, 60_000)
})

describe('estimated time', () => {
  test('is the work ahead and the job’s own, in measured steps, shared by the workers', async () => {
    await api.worker.registry.announce({ ...tinyScenes, step_ms: 1000 })
    await announceWorkers(2)
    const running = (await api.submit({ num_inference_steps: 10 })).id
    await api.worker.store.start(running, 'w')
    await api.worker.store.progress(running, 4, 10)
    await api.deps.queues.remove('tiny-scenes', running)
    const ahead = (await api.submit({ num_inference_steps: 20, num_images_per_prompt: 2 })).id
    const last = (await api.submit({ num_inference_steps: 8, width: 256, height: 256 })).id
    // What the process read about the queue before these jobs were there is a second old at most.
    await expect.poll(async () => (await read(ahead)).eta_seconds, { timeout: 5000 }).toBe((6 + 40) / 2)
    expect((await read(last)).eta_seconds).toBe((6 + 40 + 8 * 4) / 2)
    expect((await read(running)).eta_seconds).toBe(6 / 2)
  })

  test('is null without a live worker, and before a step was measured', async () => {
    const { id } = await api.submit()
    expect(await read(id)).toMatchObject({ queue_position: 1, eta_seconds: null })
    await api.worker.registry.announce({ ...tinyScenes, step_ms: null })
    await announceWorkers(1)
    await expect.poll(() => api.deps.registry.workers()).toHaveLength(1)
    expect((await read(id)).eta_seconds).toBeNull()
  })
})

describe('a full queue', () => {
  test('tells when a place will come free, from what is running, or from where the caller’s own jobs stand', async () => {
    const env = { API_KEYS: 'alice-secret,bob-bob-secret', MAX_QUEUED_JOBS: '3', MAX_QUEUED_JOBS_PER_KEY: '2', QUEUE_PREFIX: '{full}' }
    const full = await startTestApi({ env, redis: api.redis, model: { ...tinyScenes, step_ms: 1000 } })
    const post = (key: string): Promise<Response> => full.post('/v1/jobs', { prompt: 'p' }, { 'X-API-Key': key })
    const worker = { id: 'w', model: 'tiny-scenes', concurrency: 1, active: 1, device: 'cpu', engine_memory_bytes: 1, ready: true }
    await full.worker.registry.heartbeat(worker)
    const { id } = (await (await post('bob-bob-secret')).json()) as Job
    await full.worker.store.start(id, 'w')
    await full.worker.store.progress(id, 15, 20)
    await full.deps.queues.remove('tiny-scenes', id)
    for (const key of ['bob-bob-secret', 'alice-secret']) expect((await post(key)).status).toBe(202)
    expect((await post('alice-secret')).status).toBe(202)

    const ofAll = async (): Promise<string | null> => (await post('bob-bob-secret')).headers.get('Retry-After')
    await expect.poll(ofAll, { timeout: 5000 }).toBe('5')
    const refused = await post('bob-bob-secret')
    expect(refused.status).toBe(429)
    expect(await refused.json()).toMatchObject({ code: 'queue_full', retryable: true })
    await full.close()

    const own = await startTestApi({ env: { ...env, MAX_QUEUED_JOBS: '9' }, redis: api.redis, model: null })
    // Of Alice's two jobs the first starts after what is running (5 steps) and Bob's (20).
    const response = await own.post('/v1/jobs', { prompt: 'p' }, { 'X-API-Key': 'alice-secret' })
    expect([response.status, response.headers.get('Retry-After')]).toEqual([429, '25'])
    await own.close()
  })
})
