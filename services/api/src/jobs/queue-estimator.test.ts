import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { generateQueueName } from '@easel/contract'
import type { Job, JobInput, Problem } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { createRedis } from '@easel/job-store'
import { pauseMaintenance } from '../../test/pause-maintenance.ts'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { enqueueJob } from './enqueue-job.ts'

let api: TestApi
beforeEach(async () => {
  api = await startTestApi({ env: { MAX_QUEUED_JOBS: '0' } })
})
afterEach(() => api.close())

async function read(id: string): Promise<Job> {
  return (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
}
const position = async (id: string): Promise<number | null> => (await read(id)).queue_position

/** Announces a worker that stays alive, as if it went on sending heartbeats. */
async function announceWorker(at: TestApi, id: string, concurrency = 8): Promise<void> {
  const load = { concurrency, active: 0, device: 'cpu', engine_memory_bytes: 1 }
  await at.worker.registry.heartbeat({ id, model: 'tiny-scenes', ready: true, ...load })
  const { redis, store } = at.deps
  await redis
    .multi()
    .persist(store.keys.worker(id))
    .zadd(store.keys.workers, Date.now() + 86_400_000, id)
    .exec()
}

async function announceWorkers(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await announceWorker(api, `w${i}`)
}

const toMade = (input: JobInput) => ({ id: uuidv7(), owner: 'public', createdAt: Date.now(), input, priority: 0 })

/** Takes jobs in BullMQ's order, which is that of the fair share as long as there is only one owner. */
async function takeAll(count: number): Promise<string[]> {
  const taken: string[] = []
  const connection = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  const options = { connection, prefix: api.deps.config.queuePrefix, concurrency: 1 }
  const worker = new Worker<{ id: string }>(generateQueueName('tiny-scenes'), async ({ data }) => void taken.push(data.id), options)
  worker.on('error', () => {})
  await expect.poll(() => taken.length, { timeout: 60_000 }).toBe(count)
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

  test('is 1 for a job that BullMQ has put back at the front', async () => {
    const [first, second] = [(await api.submit()).id, (await api.submit()).id]
    const queue = api.deps.queues.of('tiny-scenes')
    await api.deps.redis.multi().zrem(queue.toKey('prioritized'), second).rpush(queue.toKey('wait'), second).exec()
    await expect.poll(async () => [await position(second), await position(first)]).toEqual([1, 2])
  })

  test('is exact for the last of 10,000 waiting jobs, and costs a limited number of commands', async () => {
    const { deps } = api
    await announceWorkers(1)
    const { input } = (await api.deps.store.get((await api.submit()).id)) as JobRecord
    const records = Array.from({ length: 9_999 }, () => ({ ...toMade(input), costMs: 400, weight: 1 }))
    for (let i = 0; i < records.length; i += 500) {
      await Promise.all(
        records.slice(i, i + 500).map(async (record) => {
          await deps.store.create(record)
          await enqueueJob(deps, record)
        }),
      )
    }
    const last = (await deps.store.get(records.at(-1)?.id ?? '')) as JobRecord
    const commands = async (): Promise<number> => Number(/total_commands_processed:(\d+)/.exec(await deps.redis.info('stats'))?.[1])
    // Housekeeping looks at every job, and its commands would be counted too.
    await (await pauseMaintenance(api)).close()
    // After that time, what was read about the queue before is too old to be used.
    await sleep(1100)
    const before = await commands()
    const { position: place, etaSeconds } = await deps.estimator.estimate(last)
    expect((await commands()) - before).toBeLessThan(150)
    const rank = await deps.redis.zrank(deps.store.keys.shareLine('tiny-scenes', 'public'), last.id)
    expect(place).toBe((rank ?? 0) + 1)
    expect(place).toBeGreaterThan(9_000)
    // Every job has 20 steps of 20 ms.
    expect(etaSeconds).toBe(Math.ceil((place ?? 0) * 0.4))
    // A page of jobs reads the front of the queue once.
    const readPage = async (): Promise<number> => {
      const before = await commands()
      expect(await (await api.get('/v1/jobs?limit=100')).json()).toMatchObject({ jobs: { length: 100 } })
      return (await commands()) - before
    }
    expect(await readPage()).toBeLessThan(1000)
    // A job that was just submitted is told its place at once.
    expect((await api.submit()).queue_position).toBeGreaterThan(9_000)
  })
})

describe('estimated time', () => {
  test('is the work ahead plus the job’s own, in measured steps, divided by the number of workers', async () => {
    await api.worker.registry.announce({ ...tinyScenes, step_ms: 1000 })
    await announceWorkers(2)
    const running = (await api.submit({ num_inference_steps: 10 })).id
    await api.worker.store.start(running, 'w')
    await api.worker.store.progress(running, 4, 10)
    await api.deps.queues.remove('tiny-scenes', running)
    const ahead = (await api.submit({ num_inference_steps: 20, num_images_per_prompt: 2 })).id
    const last = (await api.submit({ num_inference_steps: 8, width: 256, height: 256 })).id
    // For up to a second the api may use what it read about the queue before these jobs existed.
    await expect.poll(async () => (await read(ahead)).eta_seconds).toBe((6 + 40) / 2)
    expect((await read(last)).eta_seconds).toBe((6 + 40 + 8 * 4) / 2)
    expect((await read(running)).eta_seconds).toBe(6 / 2)
  })

  test('follows from the latest measurements, whatever was known at submit, and includes the texts and the decoding', async () => {
    await api.worker.registry.announce({ ...tinyScenes, step_ms: null })
    await announceWorkers(1)
    const { id } = await api.submit({ num_inference_steps: 4, width: 256, height: 256 })
    await api.worker.store.start(id, 'w')
    await api.worker.store.progress(id, 1, 4)
    await api.deps.queues.remove('tiny-scenes', id)
    await api.worker.registry.announce({ ...tinyScenes, step_ms: 13_000, picture_ms: 20_000 })
    // Between two reports the time counts down, by no more than the next part takes.
    const isBelow = (seconds: number, next: number) => (eta: number | null) => eta !== null && eta <= seconds && eta >= seconds - next
    // Four times the default size: three steps of 52 s, and the picture.
    await expect.poll(async () => (await read(id)).eta_seconds).toSatisfy(isBelow(3 * 52 + 80, 52))
    await api.worker.store.progress(id, 4, 4)
    await expect.poll(async () => (await read(id)).eta_seconds).toSatisfy(isBelow(80, 80))
  })

  test('is null without a live worker, and until a step has been measured', async () => {
    const { id } = await api.submit()
    expect(await read(id)).toMatchObject({ queue_position: 1, eta_seconds: null })
    await api.worker.registry.announce({ ...tinyScenes, step_ms: null })
    await announceWorkers(1)
    await expect.poll(() => api.deps.registry.workers()).toHaveLength(1)
    expect((await read(id)).eta_seconds).toBeNull()
  })
})

describe('with several owners', () => {
  const keys = ['alice', 'bob'].map((name) => `${name}:${name}-secret`)
  const asOwner = (name: string) => ({ 'X-API-Key': `${name}-secret` })
  // It stands still, because the time that running jobs need counts down.
  const clock = Date.now()
  const open = async (env: Record<string, string>): Promise<TestApi> => {
    const shared = await startTestApi({
      env: { API_KEYS: keys.join(','), QUEUE_PREFIX: '{shared}', ...env },
      redis: api.redis,
      model: { ...tinyScenes, step_ms: 1000 },
      now: () => clock,
    })
    await announceWorker(shared, 'w', 1)
    return shared
  }
  const submitTo = async (to: TestApi, name: string, body: object = {}): Promise<Job> => {
    const response = await to.post('/v1/jobs', { prompt: 'p', ...body }, asOwner(name))
    expect(response.status).toBe(202)
    return (await response.json()) as Job
  }
  const startIn = async (to: TestApi, id: string, step: number): Promise<void> => {
    await to.worker.store.start(id, 'w')
    await to.worker.store.progress(id, step, 20)
    await to.deps.queues.remove('tiny-scenes', id)
  }

  test('place and time follow the fair share, by cost and weight, not by who came first', async () => {
    const shared = await open({ API_KEYS: 'alice*3:alice-secret,bob:bob-secret' })
    const readOf = async (name: string, id: string): Promise<Job> =>
      (await (await shared.get(`/v1/jobs/${id}`, { headers: asOwner(name) })).json()) as Job
    const bobs = [await submitTo(shared, 'bob'), await submitTo(shared, 'bob')].map(({ id }) => id)
    const alices: string[] = []
    for (let i = 0; i < 3; i++) alices.push((await submitTo(shared, 'alice')).id)
    const place = async (name: string, id: string) => (await readOf(name, id)).queue_position
    expect(await Promise.all([...alices.map((id) => place('alice', id)), ...bobs.map((id) => place('bob', id))])).toEqual([1, 3, 4, 2, 5])
    // Alice's first job takes 20 s of the device, beside which Bob gets a third as much. His second job waits for all of hers.
    expect((await readOf('alice', alices[0] ?? '')).eta_seconds).toBe(27)
    expect((await readOf('bob', bobs[1] ?? '')).eta_seconds).toBe(100)
    await shared.close()
  })

  test('a full queue names its limit, and tells from the running jobs when a place will come free', async () => {
    const full = await open({ MAX_QUEUED_JOBS: '3', MAX_QUEUED_JOBS_PER_KEY: '2', QUEUE_PREFIX: '{full}' })
    await startIn(full, (await submitTo(full, 'bob')).id, 15)
    await startIn(full, (await submitTo(full, 'alice')).id, 10)
    for (const name of ['bob', 'alice', 'alice']) await submitTo(full, name)

    const refusedAs = async (name: string) => {
      const response = await full.post('/v1/jobs', { prompt: 'p' }, asOwner(name))
      expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([429, 'queue_full'])
      return ['Retry-After', 'RateLimit', 'RateLimit-Policy'].map((header) => response.headers.get(header))
    }
    // Bob's running job needs another 5 s of the device, and Alice's gets as much beside it.
    await expect.poll(() => refusedAs('bob')).toEqual(['10', '"queue";r=0;t=10', '"queue";q=3'])
    await full.close()

    const own = await open({ MAX_QUEUED_JOBS: '9', MAX_QUEUED_JOBS_PER_KEY: '2', QUEUE_PREFIX: '{full}' })
    const refused = await own.post('/v1/jobs', { prompt: 'p' }, asOwner('alice'))
    expect([refused.status, refused.headers.get('Retry-After'), refused.headers.get('RateLimit-Policy')]).toEqual([
      429,
      '20',
      '"queued-jobs";q=2',
    ])
    await own.close()
  })

  test('a refusal after a burst takes into account what began to run during the burst', async () => {
    const burst = await open({ MAX_QUEUED_JOBS: '2', QUEUE_PREFIX: '{burst}' })
    // What this submit reads about the running jobs is out of date at the end of the burst.
    await submitTo(burst, 'bob')
    const first = (await burst.worker.store.list('', { limit: 1 }))[0]
    await startIn(burst, first?.id ?? '', 10)
    for (let i = 0; i < 2; i++) await submitTo(burst, 'bob')
    await sleep(110)
    const refused = await burst.post('/v1/jobs', { prompt: 'p' }, asOwner('bob'))
    expect([refused.status, refused.headers.get('Retry-After')]).toEqual([429, '10'])
    await burst.close()
  })

  test('the waiting work of an owner can be limited in seconds of the device', async () => {
    const limited = await open({ MAX_QUEUED_GPU_SECONDS_PER_KEY: '50', QUEUE_PREFIX: '{work}' })
    await submitTo(limited, 'alice', { num_inference_steps: 100 })
    const refused = await limited.post('/v1/jobs', { prompt: 'p', num_inference_steps: 1 }, asOwner('alice'))
    expect([refused.status, refused.headers.get('Retry-After'), refused.headers.get('RateLimit-Policy')]).toEqual([
      429,
      '51',
      '"queued-gpu-seconds";q=50',
    ])
    expect(await refused.json()).toMatchObject({ code: 'queue_full', detail: expect.stringContaining('MAX_QUEUED_GPU_SECONDS_PER_KEY') })
    for (let i = 0; i < 2; i++) await submitTo(limited, 'bob')
    await limited.close()
  })

  test('a deadline is refused if the queue shows that it cannot be met, and kept otherwise', async () => {
    const dated = await open({ QUEUE_PREFIX: '{deadline}' })
    const { id } = await submitTo(dated, 'alice', { deadline: 30 })
    const made = await dated.worker.store.get(id)
    // The job takes 20 s, so it must begin within 10 s.
    expect((made?.expiresAt ?? 0) - (made?.createdAt ?? 0)).toBe(10_000)
    await submitTo(dated, 'alice', { deadline: new Date(Date.now() + 60_000).toISOString() })
    const late = await dated.post('/v1/jobs', { prompt: 'p', deadline: 45 }, asOwner('alice'))
    expect([late.status, late.headers.get('Retry-After')]).toEqual([429, '15'])
    expect(await late.json()).toMatchObject({ code: 'deadline_unreachable', detail: expect.stringContaining('about 60 s') })
    // Bob has a share of his own, so Alice's queue does not delay the end of his job.
    await submitTo(dated, 'bob', { deadline: 45 })
    const past = await dated.post('/v1/jobs', { prompt: 'p', deadline: '2026-01-01T00:00:00Z' }, asOwner('bob'))
    expect([past.status, ((await past.json()) as Problem).detail]).toEqual([429, 'The deadline of the job has passed.'])
    // Waiting would not help.
    expect(past.headers.get('Retry-After')).toBeNull()
    const short = await dated.post('/v1/jobs', { prompt: 'p', deadline: 0.5 }, asOwner('bob'))
    expect([short.status, ((await short.json()) as Problem).detail]).toEqual([429, expect.stringContaining('its deadline is in 0.5 s')])
    const vague = await dated.post('/v1/jobs', { prompt: 'p', deadline: 'soon' }, asOwner('bob'))
    expect([vague.status, ((await vague.json()) as Problem).detail]).toEqual([422, expect.stringContaining('expected an instant such as')])
    await dated.close()
  })
})

test('the operator can limit steps and pictures, and a job without a timeout gets the default one', async () => {
  const env = { MAX_STEPS: '10', MAX_IMAGES_PER_JOB: '2', DEFAULT_TIMEOUT: '7', QUEUE_PREFIX: '{limits}' }
  const limited = await startTestApi({ env, redis: api.redis })
  for (const [field, value] of [
    ['num_inference_steps', 11],
    ['num_images_per_prompt', 3],
    ['sigmas', Array.from({ length: 11 }, (_, i) => 1 - i / 20)],
  ] as const) {
    const refused = await limited.post('/v1/jobs', { prompt: 'p', [field]: value })
    expect([refused.status, ((await refused.json()) as { errors: { field: string }[] }).errors.map((error) => error.field)]).toEqual([
      422,
      [field],
    ])
  }
  const job = await limited.submit({ num_images_per_prompt: 2 })
  expect(job.input.num_inference_steps).toBe(10)
  expect((await limited.worker.store.get(job.id))?.timeoutSeconds).toBe(7)
  expect((await limited.worker.store.get((await limited.submit({ timeout: 9 })).id))?.timeoutSeconds).toBe(9)
  await limited.close()
})
