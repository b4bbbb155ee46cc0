/**
 * Everything that a test of the worker needs, all of it real: a Redis server, a store in a temporary folder, the queue, and workers with the model
 * tiny-scenes. `close` ends everything that was started.
 */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pino from 'pino'
import sharp from 'sharp'
import { inputKey, isEnded } from '@easel/contract'
import type { InputPicture, JobInput } from '@easel/contract'
import { createJobStore, createModelRegistry, createRedis, JobQueues, toQueuePriority } from '@easel/job-store'
import type { JobRecord, NewJobRecord } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisOptions } from '@easel/job-store/test/redis-server'
import { readConfig } from '../src/config.ts'
import { startWorkerService } from '../src/worker-service.ts'
import type { WorkerService, WorkerServiceOptions } from '../src/worker-service.ts'

export const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))
export const crashingEntry = fileURLToPath(new URL('crashing-engine.ts', import.meta.url))

export interface StartOptions extends Partial<Omit<WorkerServiceOptions, 'config'>> {
  env?: Record<string, string>
}

export type WorkerBench = Awaited<ReturnType<typeof openWorkerBench>>

export async function openWorkerBench(redisOptions: RedisOptions = {}) {
  const server = await startRedis(redisOptions)
  const dir = await mkdtemp(join(tmpdir(), 'easel-worker-'))
  const redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  const prefix = '{test}'
  const store = createJobStore({ redis, prefix })
  const registry = createModelRegistry({ redis, prefix })
  const queues = new JobQueues({ redis, prefix, onError: () => {} })
  const workers: WorkerService[] = []
  const env = {
    REDIS_URL: server.url,
    QUEUE_PREFIX: prefix,
    MODELS_DIR: modelsDir,
    MODEL: 'tiny-scenes',
    DEVICE: 'cpu',
    STORAGE: 'local',
    STORAGE_DIR: dir,
  }
  let made = 0

  return {
    server,
    redis,
    store,
    registry,
    queues,
    dir,
    /** The variables of a worker on this bench. */
    env,

    async startWorker({ env: more = {}, ...options }: StartOptions = {}): Promise<WorkerService> {
      const level = process.env['TEST_LOG'] ?? 'silent'
      const worker = await startWorkerService({ config: readConfig({ ...env, ...more }), logger: pino({ level }), ...options })
      workers.push(worker)
      return worker
    },

    async submit(input: Partial<JobInput> = {}, record: Partial<NewJobRecord> = {}): Promise<string> {
      const id = `0197a1b2-c3d4-7abc-8def-${(++made).toString(16).padStart(12, '0')}`
      await store.create({ id, owner: 'public', createdAt: Date.now(), priority: 0, input: { ...smallInput, ...input }, ...record })
      // As in the api: a job without a priority would be taken before one that was chosen.
      await queues.add('tiny-scenes', id, { priority: toQueuePriority({ priority: 0, createdAt: Date.now(), ...record }) })
      return id
    },

    /** Stores a picture where the api would. */
    async storeInput(file: Buffer): Promise<InputPicture> {
      const sha256 = createHash('sha256').update(file).digest('hex')
      const { width, height } = (await sharp(file).metadata()).autoOrient
      const path = join(dir, inputKey(sha256))
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, file)
      return { sha256, bytes: file.length, width, height, content_type: 'image/png' }
    },

    /**
     * Submits a job and acts on it in the middle of its run, once it has made so many steps. Tries again with another job if this process was held
     * up until the run was nearly over; `undo` is called before that. Returns the id of the job.
     */
    async interrupt(input: Partial<JobInput>, atLeastSteps: number, act: () => unknown, undo: () => unknown = () => {}): Promise<string> {
      for (;;) {
        const id = await this.submit(input)
        await this.until(id, ({ status, progress }) => isEnded(status) || progress.step >= atLeastSteps)
        await act()
        const { status, progress } = (await store.get(id)) as JobRecord
        if (!isEnded(status) && progress.step < progress.total / 2) return id
        await undo()
        await this.untilEnded(id)
      }
    },

    async untilEnded(id: string): Promise<JobRecord> {
      return await this.until(id, (job) => isEnded(job.status))
    },

    async until(id: string, condition: (record: JobRecord) => boolean): Promise<JobRecord> {
      for (;;) {
        const record = await store.get(id)
        if (record !== undefined && condition(record)) return record
        await sleep(10)
      }
    },

    /** Pixels of image n of a job, RGB. */
    async pixels(record: JobRecord, n = 0): Promise<Buffer> {
      return await toPixels(await readFile(join(dir, record.output?.images[n]?.key ?? '')))
    },

    async close(): Promise<void> {
      await Promise.all(workers.map((worker) => worker.close(0)))
      await queues.close()
      redis.disconnect()
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Takes a fraction of a second. */
const smallInput: JobInput = {
  model: 'tiny-scenes',
  prompt: 'a red boat on the sea',
  negative_prompt: '',
  width: 64,
  height: 64,
  num_inference_steps: 4,
  guidance_scale: 4,
  num_images_per_prompt: 1,
  seed: 42,
  max_sequence_length: 20,
  output_format: 'png',
}

/** A run of about a second. */
export const longInput = { num_inference_steps: 60, width: 128, height: 128 } as const

/** A run of half a minute, for things that must happen before its end on any machine. */
export const endlessInput = { num_inference_steps: 200, width: 256, height: 256, num_images_per_prompt: 2 } as const

/** Input pictures and masks of test jobs, and diffusers' results for them. */
export const pictures = new URL('../../../packages/pipeline/test/golden/', import.meta.url)

export async function toPixels(file: Buffer): Promise<Buffer> {
  return await sharp(file).removeAlpha().raw().toBuffer()
}

/** For `until`: the job has made this many steps. */
export const atStep =
  (step: number) =>
  (record: JobRecord): boolean =>
    record.progress.step >= step

/** The hash of the first picture. */
export const sha = (record: JobRecord): string | undefined => record.output?.images[0]?.sha256
