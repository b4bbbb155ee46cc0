import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import type { JobRecord } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { enqueueJob } from '../jobs/enqueue-job.ts'

let redis: RedisServer
let api: TestApi
let tests = 0
/** The clock, in ms. A reading is used for a second, so the clock stands still until a test advances it. */
let clock = Date.now()
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(async () => {
  await redis?.stop()
})
beforeEach(async () => {
  const env = { QUEUE_PREFIX: `{metrics-${++tests}}`, MAX_QUEUED_JOBS: '0' }
  api = await startTestApi({ env, redis, now: () => clock })
  await api.worker.registry.announce({ ...tinyScenes, id: 'other' })
  return async () => {
    await api.close()
  }
})

async function scrape(of = api): Promise<Map<string, number>> {
  clock += 1001
  const lines = (await (await of.get('/metrics')).text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

/** What is reported about a model. */
async function state(model = 'tiny-scenes'): Promise<Record<'waiting' | 'active' | 'age' | 'work' | 'workers', number | undefined>> {
  const metrics = await scrape()
  return {
    waiting: metrics.get(`easel_queue_depth{state="waiting",model="${model}"}`),
    active: metrics.get(`easel_queue_depth{state="active",model="${model}"}`),
    age: metrics.get(`easel_oldest_job_age_seconds{model="${model}"}`),
    work: metrics.get(`easel_gpu_seconds_queued{model="${model}"}`),
    workers: metrics.get(`easel_workers{model="${model}"}`),
  }
}

async function beat(id: string, ready = true): Promise<void> {
  const load = { concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1 }
  await api.worker.registry.heartbeat({ id, model: 'tiny-scenes', ready, ...load })
}

const nothing = { waiting: 0, active: 0, age: 0, work: 0, workers: 0 }

test('a job whose worker is gone counts as waiting, with the work that is left, until another worker takes it', async () => {
  const { id } = await api.submit({ num_inference_steps: 10 })
  await beat('w1')
  await api.worker.store.start(id, 'w1')
  await api.worker.store.progress(id, 4, 10)
  expect(await state()).toEqual({ ...nothing, active: 1, workers: 1 })

  await api.worker.registry.removeWorker('w1')
  // A step takes 20 ms.
  expect(await state()).toEqual({ ...nothing, waiting: 1, age: expect.toSatisfy((age) => age > 0), work: expect.closeTo(0.02 * 6, 5) })

  await beat('w2')
  await api.worker.store.start(id, 'w2')
  expect(await state()).toEqual({ ...nothing, active: 1, workers: 1 })
})

test('a job whose worker was killed after all its steps still counts as work', async () => {
  const { id } = await api.submit({ num_inference_steps: 10 })
  await api.worker.store.start(id, 'killed')
  await api.worker.store.progress(id, 10, 10)
  expect((await state()).work).toBeCloseTo(0.02, 5)
})

test('each model has gauges of its own, which are 0 while it has no jobs', async () => {
  expect(await state('other')).toEqual(nothing)
  await api.submit({ model: 'other', num_inference_steps: 5 })
  expect(await state()).toEqual(nothing)
  expect(await state('other')).toMatchObject({ waiting: 1, work: expect.closeTo(0.02 * 5, 5) })
})

test('a job is not overlooked behind more jobs of another model than are examined', async () => {
  const { deps } = api
  const first = (await deps.store.get((await api.submit({ num_inference_steps: 10 })).id)) as JobRecord
  const { input } = first
  const records = Array.from({ length: 1_050 }, () => ({ id: uuidv7(), owner: 'public', createdAt: Date.now(), input, priority: 0 }))
  await Promise.all(
    records.map(async (record) => {
      await deps.store.create(record)
      await enqueueJob(deps, record)
    }),
  )
  await api.submit({ model: 'other' })
  expect(await state()).toMatchObject({ waiting: 1_051, work: expect.closeTo(0.02 * 10 * 1_051, 5) })
  expect(await state('other')).toMatchObject({
    waiting: 1,
    age: expect.toSatisfy((age) => age > 0),
    work: expect.closeTo(0.02 * tinyScenes.defaults.num_inference_steps, 5),
  })
})

test('a worker that can take no jobs is not counted, here or in the list of models, but keeps those it runs', async () => {
  const { id } = await api.submit()
  await api.worker.store.start(id, 'w1')
  const listed = async (): Promise<unknown> => await (await api.get('/v1/capabilities')).json()
  await beat('w1')
  expect(await state()).toMatchObject({ active: 1, waiting: 0, workers: 1 })
  expect(await listed()).toMatchObject({ models: [{ id: 'other', workers: 0 }, { workers: 1 }] })
  await beat('w1', false)
  expect(await state()).toMatchObject({ active: 1, waiting: 0, workers: 0 })
  expect(await listed()).toMatchObject({ models: [{ id: 'other', workers: 0 }, { workers: 0 }] })
})

test('a replica that stops hands over the gauges at once', async () => {
  const first = await startTestApi({ env: { QUEUE_PREFIX: api.deps.config.queuePrefix }, redis, model: null })
  expect((await scrape(first)).has('easel_webhook_queue_depth')).toBe(true)
  expect((await scrape()).has('easel_webhook_queue_depth')).toBe(false)
  await first.close()
  expect((await scrape()).has('easel_webhook_queue_depth')).toBe(true)

  // A replica that never held the lock cannot release it.
  const second = await startTestApi({ env: { QUEUE_PREFIX: api.deps.config.queuePrefix }, redis, model: null })
  await second.close()
  expect(await api.deps.redis.exists(api.deps.store.keys.metricsLock)).toBe(1)
})

test('the state is read once a second, without prompts, however many ask for it', async () => {
  const prompt = 'p'.repeat(4000)
  for (let i = 0; i < 5; i++) await api.submit({ prompt })
  await scrape()
  clock += 1001
  using works = vi.spyOn(api.deps.store, 'getWorks')
  using records = vi.spyOn(api.deps.store, 'getMany')
  const texts = await Promise.all(Array.from({ length: 10 }, async () => await (await api.get('/metrics')).text()))
  texts.push(await (await api.get('/metrics')).text())
  for (const text of texts) expect(text).toContain('easel_queue_depth{state="waiting",model="tiny-scenes"} 5')
  // Once for the queued jobs and once for the running ones.
  expect(works).toHaveBeenCalledTimes(2)
  expect(records.mock.calls.flatMap(([ids]) => ids)).toEqual([])
  expect(JSON.stringify(await works.mock.results[0]?.value)).not.toContain(prompt)
  await scrape()
  expect(works).toHaveBeenCalledTimes(4)
})
