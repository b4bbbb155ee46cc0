/**
 * A whole api for tests: real Redis, a real folder for pictures, real HTTP on a free port, one announced model, and a simulated worker that writes
 * the records of jobs. Nothing is left after `close()`.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { vi } from 'vitest'
import { imageKey, thumbnailKey } from '@easel/contract'
import type { Job, ModelRecord, Provenance, StoredImage } from '@easel/contract'
import { createJobStore, createModelRegistry, createRedis, waitUntilReady } from '@easel/job-store'
import type { JobStore, ModelRegistry } from '@easel/job-store'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import type { AppDeps } from '../src/app-deps.ts'
import { readConfig } from '../src/config.ts'
import { serveApi } from '../src/serve.ts'
import type { ServeOptions } from '../src/serve.ts'

const contentHash = '0'.repeat(64)

/** The limits and defaults of models/tiny-scenes. */
export const tinyScenes: ModelRecord = {
  id: 'tiny-scenes',
  content_hash: contentHash,
  runtime: 'onnxruntime-node 1.30.0',
  provider: 'cpu',
  scheduler: { class: 'FlowMatchEulerDiscreteScheduler', config: { shift: 3 } },
  defaults: { width: 128, height: 128, num_inference_steps: 20, guidance_scale: 4, max_sequence_length: 20 },
  limits: { size_multiple: 16, max_side: 256, max_pixels: 65_536, max_sequence_length: 512, max_clip_skip: 1, layers: 6 },
  loras: ['tint', 'wobble'],
  step_ms: 20,
  updated_at: '2026-01-01T00:00:00.000Z',
}

/** The provenance that the simulated worker reports. */
export const provenance: Provenance = {
  model: { id: tinyScenes.id, content_hash: contentHash },
  runtime: tinyScenes.runtime,
  provider: tinyScenes.provider,
  platform: 'linux-x64',
  processor: 'a processor',
  scheduler: tinyScenes.scheduler,
  encoder: { name: 'sharp 0.35.5', png_compression_level: 6, metadata: 'full' },
}

export interface StartApiOptions {
  /** Environment variables in addition to those that are set here. */
  env?: Record<string, string>
  /** The model to announce; null for none. Default: `tinyScenes`. */
  model?: ModelRecord | null
  /** A running Redis, which is not stopped. Default: a new one. */
  redis?: RedisServer
  /** The clock that all processes share, in ms. Default: that of Redis. */
  now?: () => number
  /** The clock of the api's machine, in ms. Default: that of this machine. */
  localNow?: () => number
  /** How webhooks are sent. Default: as in production. */
  delivery?: ServeOptions['delivery']
}

export interface TestApi {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly deps: AppDeps
  readonly redis: RedisServer
  /** The folder of the local store. */
  readonly storageDir: string
  readonly worker: TestWorker
  /** Fetches a path of this api. */
  get(path: string, init?: RequestInit): Promise<Response>
  /** Posts a value as JSON. */
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>
  /** Posts a request that makes a job and waits for it; `act` gets the job's id meanwhile. */
  postMeanwhile(path: string, body: unknown, act: (id: string) => Promise<unknown>): Promise<Response>
  /** Submits a job, which must be accepted. */
  submit(body?: Record<string, unknown>): Promise<Job>
  /** Ends only the api; Redis continues. */
  close(): Promise<void>
}

/** Simulates a worker: writes the records of jobs, through connections of its own. */
interface TestWorker {
  readonly store: JobStore
  readonly registry: ModelRegistry
  /** Stores a picture and a thumbnail for each image of the job and ends it as succeeded, after starting it if necessary. */
  succeed(id: string, made?: Provenance): Promise<void>
}

export async function startTestApi(options: StartApiOptions = {}): Promise<TestApi> {
  const redis = options.redis ?? (await startRedis())
  const storageDir = await mkdtemp(join(tmpdir(), 'easel-api-'))
  const port = await findFreePort()
  const config = readConfig({
    HOST: '127.0.0.1',
    PORT: String(port),
    PUBLIC_URL: `http://127.0.0.1:${port}`,
    REDIS_URL: redis.url,
    STORAGE: 'local',
    STORAGE_DIR: storageDir,
    SHUTDOWN_GRACE: '1',
    ...options.env,
  })
  const api = await serveApi({
    config,
    logger: pino({ level: 'silent' }),
    now: options.now,
    localNow: options.localNow,
    delivery: options.delivery,
  })
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  await Promise.all([waitUntilReady(connection, 60_000), waitUntilReady(api.deps.redis, 60_000)])
  const worker = createTestWorker(createJobStore({ redis: connection, prefix: config.queuePrefix }), api.deps, connection)
  if (options.model !== null) await worker.registry.announce(options.model ?? tinyScenes)

  const url = `http://127.0.0.1:${port}`
  const get = (path: string, init?: RequestInit): Promise<Response> => fetch(url + path, init)
  const post: TestApi['post'] = (path, body, headers) =>
    get(path, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body ?? {}) })
  return {
    url,
    deps: api.deps,
    redis,
    storageDir,
    worker,
    get,
    post,
    async postMeanwhile(path, body, act) {
      const ids = async (): Promise<string[]> => (await worker.store.list('', { limit: 1000 })).map(({ id }) => id)
      const known = new Set(await ids())
      const response = post(path, body)
      const made = async (): Promise<string> => {
        const id = (await ids()).find((id) => !known.has(id))
        if (id === undefined) throw new Error('Expected a job, got none yet')
        return id
      }
      await act(await vi.waitFor(made, { timeout: 60_000 }))
      return await response
    },
    async submit(body = {}) {
      const response = await post('/v1/jobs', { prompt: 'a red boat on the sea', ...body })
      if (response.status !== 202) throw new Error(`Expected 202, got ${response.status}: ${await response.text()}`)
      return (await response.json()) as Job
    },
    async close() {
      await api.close()
      connection.disconnect()
      if (options.redis === undefined) await redis.stop()
      await rm(storageDir, { recursive: true, force: true })
    },
  }
}

function createTestWorker(store: JobStore, { config, storage }: AppDeps, connection: ReturnType<typeof createRedis>): TestWorker {
  return {
    store,
    registry: createModelRegistry({ redis: connection, prefix: config.queuePrefix }),
    async succeed(id, made = provenance) {
      const record = await store.get(id)
      if (record === undefined) throw new Error(`Expected a record of ${id}, got none`)
      if (record.status === 'queued') await store.start(id, 'test-worker')
      const { width, height, num_images_per_prompt: count, output_format: format, seed } = record.input
      const contentType = `image/${format}`
      const images: StoredImage[] = []
      for (let n = 0; n < count; n++) {
        const [key, small] = [imageKey(id, n, format), thumbnailKey(id, n)]
        const bytes = Buffer.from(`picture ${n} of ${id}`)
        await storage.put(key, bytes, { contentType })
        await storage.put(small, Buffer.from(`thumbnail ${n} of ${id}`), { contentType: 'image/webp' })
        const sha256 = createHash('sha256').update(bytes).digest('hex')
        images.push({ key, thumbnail_key: small, width, height, seed: seed + n, sha256, content_type: contentType })
      }
      const timings = { queue_ms: 1, encode_ms: 2, denoise_ms: 3, decode_ms: 4, upload_ms: 5, total_ms: 15 }
      await store.end(id, { status: 'succeeded', output: { images }, timings, provenance: made })
    },
  }
}
