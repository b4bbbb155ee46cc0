/** How a job ends in each case, with an engine that does what each test says. The record, the webhook queue and the picture store are real. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UnrecoverableError, WaitingError } from 'bullmq'
import type { Job } from 'bullmq'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { JobInput, Provenance } from '@easel/contract'
import { createJobStore, createRedis, createWebhookOutbox } from '@easel/job-store'
import type { GenerateJobData, JobRecord, JobStore, NewJobRecord, RedisConnection, WebhookOutbox } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { noTracing } from '@easel/process'
import { createStorage } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { decodeCheckpoint } from './checkpoint.ts'
import { EngineError } from '../engine/engine.ts'
import type { Engine, EngineCallOptions, EngineResult } from '../engine/engine.ts'
import type { Checkpoint, EngineCapabilities } from '../engine/protocol.ts'
import { createProcessJob } from './process-job.ts'
import type { ProcessJobDeps } from './process-job.ts'
import { WorkerMetrics } from '../status/worker-metrics.ts'

// Large enough for a thumbnail.
const image = { index: 0, width: 512, height: 8, rgb: new Uint8Array(512 * 8 * 3) }
const timings = { encodeMs: 1.4, denoiseMs: 20.6, decodeMs: 3, deviceMs: 17 }
const checkpoint: Checkpoint = { step: 4, latents: { data: Float32Array.of(1), dims: [1], dtype: 'float32' } }
const result: EngineResult = { images: [image], loras: [], timings }
const provenance: Provenance = {
  model: { id: 'm', content_hash: 'hash' },
  runtime: 'none',
  provider: 'cpu',
  graphs: {},
  platform: 'here',
  processor: 'none',
  scheduler: { class: 'None', config: {} },
  encoder: { name: 'sharp', png_compression_level: 6, metadata: 'none' },
}

let server: RedisServer
let redis: RedisConnection
let store: JobStore
let outbox: WebhookOutbox
let dir: string
let storage: Storage
let jobs = 0
beforeAll(async () => {
  server = await startRedis()
  dir = await mkdtemp(join(tmpdir(), 'easel-ends-'))
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  store = createJobStore({ redis, prefix: '{test}' })
  outbox = createWebhookOutbox({ redis, prefix: '{test}', onError: () => {} })
  storage = createStorage({ kind: 'local', dir })
})
afterAll(async () => {
  await storage.close()
  await outbox.close()
  redis.disconnect()
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

type Generate = (options: EngineCallOptions) => Promise<EngineResult>
let generated: number
let stop: AbortController
let putBackWith: unknown[]
let lines: Record<string, unknown>[]
beforeEach(() => {
  generated = 0
  stop = new AbortController()
  putBackWith = []
  lines = []
})

async function submit(record: Partial<NewJobRecord> = {}, input: Partial<JobInput> = {}): Promise<string> {
  const id = `0197a1b2-c3d4-7abc-8def-${String(++jobs).padStart(12, '0')}`
  const size = { width: 8, height: 8, num_inference_steps: 10, guidance_scale: 4, num_images_per_prompt: 1, max_sequence_length: 20 }
  const full = { model: 'm', prompt: 'a secret wish', negative_prompt: '', seed: 1, output_format: 'png' as const, ...size, ...input }
  await store.create({ id, owner: 'alice', createdAt: Date.now(), priority: 0, input: full, costMs: 100, ...record })
  return id
}

/** A store in which something happens as soon as a picture has been written. */
function storageAfterPut(act: () => Promise<void>): Storage {
  return Object.assign(createStorage({ kind: 'local', dir }), {
    async put(...put: Parameters<Storage['put']>) {
      await storage.put(...put)
      await act()
    },
  })
}

/** What becomes of the job when BullMQ gives it to a worker whose engine does what `generate` says. */
async function run(id: string, generate: Generate, more: Partial<ProcessJobDeps> = {}): Promise<unknown> {
  const engine: Partial<Engine> = {
    capabilities: { modelId: 'm' } as EngineCapabilities,
    generate: async (_, __, options = {}) => {
      generated++
      return await generate(options)
    },
    checkpoint: async () => checkpoint,
  }
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) })
  const deps = {
    store,
    outbox,
    engine: engine as Engine,
    storage,
    metrics: new WorkerMetrics(),
    tracing: noTracing,
    workerId: 'w',
    logger,
  }
  const process = createProcessJob({
    ...deps,
    provenance: async () => provenance,
    uploadRetryMs: 0,
    logPrompts: false,
    now: Date.now,
    ...more,
  })
  const job: Partial<Job<GenerateJobData>> = { data: { id }, opts: {}, moveToWait: async (token) => putBackWith.push(token) }
  return await process(job as Job<GenerateJobData>, 'token', stop.signal).catch((error: unknown) => error)
}

const well: Generate = async () => result
const fails =
  (error: Error): Generate =>
  async () => {
    throw error
  }
/** A call that runs until it is stopped. `begun` is called once it listens for that. */
const untilStopped =
  (begun: () => void): Generate =>
  ({ signal }) =>
    new Promise((_, reject) => {
      const end = (): void => reject(new EngineError('canceled', 'stopped'))
      if (signal?.aborted === true) end()
      signal?.addEventListener('abort', end)
      begun()
    })
const recordOf = async (id: string): Promise<JobRecord> => (await store.get(id)) as JobRecord
const filesOf = async (id: string): Promise<string[]> =>
  (await readdir(join(dir, 'images')).catch(() => [])).filter((name) => name.startsWith(id))

describe('a job that goes well', () => {
  test('has its pictures, its times in whole milliseconds, its device time, and a line in the log', async () => {
    const id = await submit({ createdAt: Date.now() - 5000 })
    const known: string[] = []
    expect(await run(id, well, { onRecord: (record) => known.push(record.id) })).toBe('succeeded')
    const record = await recordOf(id)
    expect(record).toMatchObject({
      status: 'succeeded',
      timings: { encode_ms: 1, denoise_ms: 21, decode_ms: 3 },
      provenance: { model: { id: 'm' } },
    })
    expect(record.provenance).not.toHaveProperty('loras')
    expect(record.timings?.queue_ms).toBeGreaterThanOrEqual(5000)
    expect(record.timings?.total_ms).toBeGreaterThanOrEqual(record.timings?.queue_ms ?? Infinity)
    expect(await redis.hget(store.keys.usage('alice'), 'kept_gpu_ms')).toBe('17')
    expect(await filesOf(id)).toHaveLength(2)
    expect(known).toEqual([id])
    expect(lines.find(({ msg }) => msg === 'job ended')).toMatchObject({ jobId: id, status: 'succeeded', encode_ms: 1 })
    expect(JSON.stringify(lines)).not.toContain('a secret wish')
  })

  test('has all its previews when it ends', async () => {
    const id = await submit({ previewEvery: 1 })
    await run(id, async ({ onPreview }) => {
      onPreview?.(5, image)
      return result
    })
    const told = (await store.readEvents(id, '0')).map(({ type }) => type)
    expect(told.slice(-3)).toEqual(['preview', 'progress', 'done'])
  })

  test('records which LoRAs it was drawn with, and logs its prompts if that is allowed', async () => {
    const id = await submit()
    const loras = [{ id: 'tint', sha256: 'abc', scale: 1 }] as unknown as EngineResult['loras']
    await run(id, async () => ({ ...result, loras }), { logPrompts: true })
    expect((await recordOf(id)).provenance?.loras).toEqual([{ id: 'tint', sha256: 'abc' }])
    expect(lines.find(({ msg }) => msg === 'job started')).toMatchObject({ prompt: 'a secret wish' })
  })

  test('has no negative times where the clock of the api is ahead', async () => {
    const id = await submit({ createdAt: Date.now() + 60_000 })
    await run(id, well)
    expect((await recordOf(id)).timings).toMatchObject({ queue_ms: 0, total_ms: 0 })
    expect(lines.find(({ msg }) => msg === 'job started')).toMatchObject({ waitMs: 0 })
  })

  test('counts its wait once, up to its first start', async () => {
    const metrics = new WorkerMetrics()
    const waits = async (): Promise<string | undefined> => /easel_job_wait_seconds_count (\d+)/.exec(await metrics.registry.metrics())?.[1]
    const id = await submit()
    await store.start(id, 'earlier')
    await run(id, well, { metrics })
    expect(await waits()).toBe('0')
    await run(await submit(), well, { metrics })
    expect(await waits()).toBe('1')
  })

  test('succeeds even if the webhook message about its start cannot be queued', async () => {
    const broken: WebhookOutbox = { ...outbox, add: async () => Promise.reject(new Error('no queue')) }
    expect(await run(await submit({ webhook: 'https://example.com/' }), well, { outbox: broken })).toBe('succeeded')
    expect(lines.some(({ msg }) => msg === 'webhook message was not queued')).toBe(true)
  })
})

describe('a job that must not be run', () => {
  test('is left alone: without a record, ended, canceled, or of another model', async () => {
    const [ended, canceled, foreign] = [await submit(), await submit(), await submit({}, { model: 'other' })]
    await run(ended, well)
    await store.requestCancel(canceled)
    generated = 0
    expect(await run('0197a1b2-c3d4-7abc-8def-999999999999', well)).toBe('missing')
    expect(await run(ended, well)).toBe('ended')
    expect(await run(canceled, well)).toBe('ended')
    expect(await run(foreign, well)).toBeInstanceOf(UnrecoverableError)
    expect([generated, (await recordOf(foreign)).status]).toEqual([0, 'running'])
  })

  test('because its time to start is over fails for good', async () => {
    const id = await submit({ expiresAt: Date.now() - 1 })
    expect(await run(id, well)).toBeInstanceOf(UnrecoverableError)
    expect([generated, (await recordOf(id)).error?.code]).toEqual([0, 'expired'])
  })
})

describe('a job that fails', () => {
  test.for<[string, Error, string]>([
    ['hangs in the engine', new EngineError('engine_hung', 'stuck', { alone: true }), 'engine_hung'],
    ['kills the engine', new EngineError('engine_crashed', 'died', { alone: true }), 'engine_crashed'],
    ['finds no memory', new EngineError('out_of_memory', 'no room', { first: true }), 'out_of_memory'],
    ['computes no finite numbers in a damaged model', new EngineError('not_finite', '/models/a is damaged'), 'not_finite'],
    ['is refused by the engine', new EngineError('internal', 'bad size'), 'internal'],
    ['meets a bug', new TypeError('a bug'), 'internal'],
  ])('because it %s says so', async ([, error, code]) => {
    const id = await submit()
    expect(await run(id, fails(error))).toBeInstanceOf(UnrecoverableError)
    const record = await recordOf(id)
    expect([record.status, record.error?.code, record.output]).toEqual(['failed', code, undefined])
    // What the engine said is for the log alone.
    expect(JSON.stringify(record.error)).not.toContain(error.message)
  })

  test('because nothing can be stored says so', async () => {
    const id = await submit()
    await run(id, well, { storage: createStorage({ kind: 'local', dir: '/proc/easel' }) })
    expect(await recordOf(id)).toMatchObject({ status: 'failed', error: { code: 'storage_unavailable' } })
  })

  test('because its timeout has passed since its first start says so, and does not fail before', async () => {
    const late = await submit({ timeoutSeconds: 60 })
    await store.start(late, 'earlier')
    await redis.hset(store.keys.job(late), 'started_at', Date.now() - 60_001)
    const untilLate: Generate = async (options) => {
      // If the 60 seconds began now, this call would end well after 20 of them.
      return await Promise.race([untilStopped(() => {})(options), sleep(20_000, result, { ref: false })])
    }
    expect(await run(late, untilLate)).toBeInstanceOf(UnrecoverableError)
    expect(await recordOf(late)).toMatchObject({ status: 'failed', error: { code: 'timeout' } })
    const aWhile: Generate = async ({ signal }) => await sleep(300, result, { signal })
    expect(await run(await submit({ timeoutSeconds: 60 }), aWhile)).toBe('succeeded')
  })
})

describe('a job that is ended from outside', () => {
  test('by a hand-over goes back to the queue and stays running, with its latest progress', async () => {
    const id = await submit()
    const ended = await run(id, (options) => {
      options.onProgress?.(4, 10)
      return untilStopped(() => stop.abort('hand_over'))(options)
    })
    expect(ended).toBeInstanceOf(WaitingError)
    expect(putBackWith).toEqual(['token'])
    expect(await recordOf(id)).toMatchObject({ status: 'running', progress: { step: 4, total: 10 } })
    expect(decodeCheckpoint((await store.loadCheckpoint(id)) ?? Buffer.of())).toEqual(checkpoint)
  })

  test('by a cancel is canceled', async () => {
    const id = await submit()
    await store.start(id, 'w')
    await store.requestCancel(id)
    await redis.hdel(store.keys.job(id), 'cancel_requested_at')
    expect(
      await run(
        id,
        untilStopped(() => stop.abort('canceled')),
      ),
    ).toBe('canceled')
    expect([(await recordOf(id)).status, putBackWith]).toEqual(['canceled', []])
  })

  test('by a cancel while its pictures are being stored leaves none of them', async () => {
    const id = await submit({}, { num_images_per_prompt: 2 })
    const both = { ...result, images: [image, { ...image, index: 1 }] }
    const slow = storageAfterPut(async () => {
      stop.abort('canceled')
      stop.signal.throwIfAborted()
    })
    expect(await run(id, async () => both, { storage: slow })).toBe('canceled')
    expect(await filesOf(id)).toEqual([])
  })

  test('by a cancel between the last picture and the end is canceled, and leaves none', async () => {
    const id = await submit()
    const canceling = storageAfterPut(async () => {
      await store.requestCancel(id)
    })
    expect(await run(id, well, { storage: canceling })).toBe('canceled')
    expect([(await recordOf(id)).status, await filesOf(id)]).toEqual(['canceled', []])
  })

  test('by its deletion leaves nothing', async () => {
    const id = await submit()
    const deleting = storageAfterPut(async () => {
      await store.delete(id)
    })
    expect(await run(id, well, { storage: deleting })).toBe('missing')
    expect([await store.get(id), await filesOf(id)]).toEqual([undefined, []])
  })

  test('by another run keeps what that run has stored', async () => {
    const id = await submit()
    const twice: Generate = async () => {
      await run(id, well)
      return result
    }
    expect(await run(id, twice)).toBe('succeeded')
    expect([(await recordOf(id)).status, (await filesOf(id)).length]).toEqual(['succeeded', 2])
    expect(lines.filter(({ msg }) => msg === 'another run has ended the job')).toHaveLength(1)
  })
})
