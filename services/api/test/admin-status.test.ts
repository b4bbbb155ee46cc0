/** What /admin/status tells operators about a service that really runs: a worker process, queues, failures, shares and webhooks. */
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job, Problem, ServiceStatus } from '@easel/contract'
import { Redis } from 'ioredis'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'
import { killProcesses, startWorkerProcess } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

const operator = { Authorization: 'Bearer an-operators-key' }
const ann = { Authorization: 'Bearer key-of-ann' }
const ben = { Authorization: 'Bearer key-of-ben' }
const env = {
  ADMIN_KEY: 'an-operators-key',
  API_KEYS: 'ann*3:key-of-ann,ben:key-of-ben',
  WEBHOOK_ALLOW_INSECURE: 'true',
  WEBHOOK_RETRY_DELAYS: '0,600',
}

let api: TestApi
let receiver: Server

beforeAll(async () => {
  receiver = createServer((_, response) => response.writeHead(500).end())
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  api = await startTestApi({ env, model: null })
})
afterAll(async () => {
  killProcesses()
  await api.close()
  receiver.close()
})

async function readStatus(of = api): Promise<ServiceStatus> {
  const response = await of.get('/admin/status', { headers: operator })
  expect(response.status).toBe(200)
  return (await response.json()) as ServiceStatus
}

async function submit(body: Record<string, unknown>, headers: Record<string, string>): Promise<string> {
  const response = await api.post('/v1/jobs', body, headers)
  expect(response.status).toBe(202)
  return ((await response.json()) as Job).id
}

async function startWorker(): Promise<ServiceProcess> {
  return await startWorkerProcess({
    REDIS_URL: api.redis.url,
    STORAGE: 'local',
    STORAGE_DIR: api.storageDir,
    MODELS_DIR: fileURLToPath(new URL('../../../models', import.meta.url)),
    DEVICE: 'cpu',
    JOB_LOCK_DURATION: '2',
  })
}

test('a service in which nothing has happened yet reports nothing', async () => {
  expect(await readStatus()).toEqual({
    read_at: expect.any(String),
    jobs: { queued: 0, running: 0, succeeded: 0, failed: 0, canceled: 0 },
    models: { total: 0, listed: [] },
    workers: { total: 0, listed: [] },
    failures: { looked_at: 0, listed: [] },
    shares: { listed: [], others_gpu_seconds: 0 },
    webhooks: { waiting: 0, sending: 0, given_up: 0, listed: [] },
  })
})

test('workers, queues, failures, shares and webhooks are reported as they are, without any prompt or path of a receiver', async () => {
  const worker = await startWorker()
  const origin = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
  const prompt = 'a secret boat on the sea'
  const drawn = await submit({ prompt, num_inference_steps: 4, webhook: `${origin}/hook?token=hidden` }, ann)
  const late = await submit({ prompt, num_inference_steps: 200, num_images_per_prompt: 4, width: 256, height: 256, timeout: 1 }, ben)

  await expect
    .poll(async () => await readStatus(), { timeout: 60_000, interval: 500 })
    .toMatchObject({
      jobs: { queued: 0, running: 0, succeeded: 1, failed: 1, canceled: 0 },
      models: { total: 1, listed: [{ id: 'tiny-scenes', default: true, workers: 1, waiting: 0, active: 0, step_ms: expect.any(Number) }] },
      failures: {
        looked_at: 1,
        listed: [
          {
            code: 'timeout',
            message: 'The job ran longer than its timeout.',
            retryable: true,
            count: 1,
            latest: { job_id: late, model: 'tiny-scenes', owner: 'ben' },
          },
        ],
      },
      webhooks: {
        waiting: 1,
        sending: 0,
        given_up: 0,
        listed: [{ job_id: drawn, event: 'completed', owner: 'ann', receiver: origin, attempts: 1, reason: 'status 500' }],
      },
      // The engine's steps are reported with a later heartbeat.
      workers: { total: 1, listed: [{ model: 'tiny-scenes', device: 'cpu', ready: true, active: 0, rows_per_step: expect.any(Number) }] },
    })
  const status = await readStatus()
  const [told] = status.workers.listed
  expect(told?.engine_memory_bytes).toBeGreaterThan(10 * 2 ** 20)
  expect(told?.rows_per_step).toBeGreaterThanOrEqual(1)
  expect(Date.parse(told?.heard_at ?? '')).toBeGreaterThan(Date.now() - 30_000)
  // Ten minutes minus the time that has passed, with some jitter.
  expect(Date.parse(status.webhooks.listed[0]?.next_attempt_at ?? '') - Date.now()).toBeGreaterThan(120_000)
  expect(status.shares.listed.map(({ owner, weight }) => `${owner} ${weight}`).toSorted()).toEqual(['ann 3', 'ben 1'])
  expect(status.shares.listed.find(({ owner }) => owner === 'ann')?.gpu_seconds).toBeGreaterThan(0)
  expect(status.shares.listed.every((share) => share.gpu_seconds_today === share.gpu_seconds)).toBe(true)

  worker.child.kill('SIGKILL')
  await worker.ended
  await submit({ prompt }, ben)
  await submit({ prompt }, ben)
  // A reading is reused for a second.
  await expect.poll(async () => (await readStatus()).jobs.queued).toBe(2)
  const left = await readStatus()
  expect(left.models.listed).toMatchObject([{ id: 'tiny-scenes', waiting: 2 }])
  expect(left.shares.listed[0]).toMatchObject({ owner: 'ben', running: 0, waiting: 2, gpu_seconds_queued: expect.any(Number) })
  expect(left.shares.listed[0]?.gpu_seconds_queued).toBeGreaterThan(0)
  for (const secret of ['secret boat', 'hidden', '/hook']) expect(JSON.stringify([status, left])).not.toContain(secret)
})

describe('however much there is', () => {
  let large: TestApi
  /** Where the clock stands still, in ms; undefined while it runs. */
  let stopped: number | undefined
  beforeAll(async () => {
    // No attempt is made during the tests: each would read a record whole.
    const own = { ADMIN_KEY: env.ADMIN_KEY, WEBHOOK_RETRY_DELAYS: '3600' }
    large = await startTestApi({ env: own, now: () => stopped ?? Date.now() })
    const record = await large.worker.store.get((await large.submit()).id)
    if (record === undefined) throw new Error('Expected a record, got none')
    for (let i = 0; i < 60; i++) await large.worker.registry.announce({ ...tinyScenes, id: `model-${i}` })
    for (let i = 0; i < 60; i++) {
      const id = uuidv7()
      const error = { code: 'internal' as const, message: `Sentence ${i % 30}.`, retryable: true }
      await large.worker.store.create({ ...record, id, owner: `owner-${i}` })
      if (i % 2 === 0) await large.worker.store.start(id, 'w1')
      if (i % 2 === 0) await large.worker.store.end(id, { status: 'failed', error, gpuMs: 1000 })
      await large.deps.outbox.add({ id, webhook: 'https://receiver.example/hook', webhookEventsFilter: ['queued'] }, 'queued')
    }
  })
  afterAll(async () => await large.close())

  test('lists are limited in length, and say how much is left out', async () => {
    const { models, failures, shares, webhooks } = await readStatus(large)
    expect([models.total, models.listed.length]).toEqual([61, 50])
    // An owner with work is never among those that are left out.
    expect(models.listed[0]).toMatchObject({ id: 'tiny-scenes', waiting: 31 })
    expect([failures.looked_at, failures.listed.length]).toEqual([30, 15])
    expect(failures.listed.every(({ count }) => count === 2)).toBe(true)
    expect(shares.listed).toHaveLength(40)
    expect(shares.listed.slice(0, 20).every(({ waiting }) => waiting === 1)).toBe(true)
    expect(shares.others_gpu_seconds).toBe(10)
    expect(webhooks.listed.length).toBeLessThanOrEqual(20)
  })

  test('one reading serves all who ask within a second, and reads no record whole', async () => {
    const watcher = new Redis(large.redis.url)
    const monitor = await watcher.monitor()
    const commands: string[] = []
    monitor.on('monitor', (_time: string, args: string[]) => commands.push(args.join(' ')))
    stopped = Date.now() + 1001
    const answers = await Promise.all(Array.from({ length: 20 }, async () => await large.get('/admin/status', { headers: operator })))
    expect(new Set(await Promise.all(answers.map(async (answer) => await answer.text()))).size).toBe(1)
    await watcher.echo('the last command')
    await expect.poll(() => commands).toContain('echo the last command')
    expect(commands.filter((command) => /^zcard .*:index::failed$/i.test(command))).toHaveLength(1)
    expect(commands.filter((command) => /^hgetall/i.test(command))).toEqual([])
    monitor.disconnect()
    watcher.disconnect()
  })
})

test('while Redis is away it says so, and it continues when Redis is back', async () => {
  await api.redis.kill()
  await expect.poll(async () => (await api.get('/admin/status', { headers: operator })).status).toBe(503)
  const response = await api.get('/admin/status', { headers: operator })
  expect([response.status, response.headers.get('cache-control')]).toEqual([503, 'no-store'])
  expect(((await response.json()) as Problem).code).toBe('queue_unavailable')
  expect((await api.get('/admin', { headers: operator })).status).toBe(200)
  await api.redis.restart()
  await expect.poll(async () => (await api.get('/admin/status', { headers: operator })).status).toBe(200)
})
