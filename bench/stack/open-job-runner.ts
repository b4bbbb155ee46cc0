/**
 * How a worker makes one job, without HTTP and queue: its own `processJob`, called directly, with a real engine process, Redis and folder. For
 * comparison, the same engine process without any of this.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Job } from 'bullmq'
import pino from 'pino'
import type { JobInput } from '@easel/contract'
import { createJobStore, createRedis, createWebhookOutbox } from '@easel/job-store'
import type { GenerateJobData } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { createStorage } from '@easel/storage'
import { noTracing } from '@easel/process'
import { startEngine } from '../../services/gpu-worker/src/engine/engine-supervisor.ts'
import { createProcessJob } from '../../services/gpu-worker/src/jobs/process-job.ts'
import { toEngineParams } from '../../services/gpu-worker/src/jobs/to-engine-params.ts'
import { toProvenance } from '../../services/gpu-worker/src/pictures/to-provenance.ts'
import { WorkerMetrics } from '../../services/gpu-worker/src/status/worker-metrics.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'

export interface JobRunner {
  /** Everything that a worker does for a job: record, progress, previews, PNG, file, end of the record. */
  runJob(input: JobInput, options?: { previewEvery?: number }): Promise<void>
  /** The pictures are made and discarded, and nothing is reported. */
  runBare(input: JobInput): Promise<void>
  close(): Promise<void>
}

export async function openJobRunner(): Promise<JobRunner> {
  const server = await startRedis()
  const dir = await mkdtemp(join(tmpdir(), 'easel-bench-'))
  const prefix = '{bench}'
  const redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  const store = createJobStore({ redis, prefix })
  const outbox = createWebhookOutbox({ redis, prefix, onError: () => {} })
  const storage = createStorage({ kind: 'local', dir })
  const engine = await startEngine({ model: modelName, modelsDir, device: 'cpu', stepTimeoutMs: 60_000 })
  const processJob = createProcessJob({
    store,
    outbox,
    engine,
    storage,
    logger: pino({ level: 'warn' }),
    metrics: new WorkerMetrics(),
    tracing: noTracing,
    workerId: 'bench',
    provenance: async () =>
      toProvenance(engine.capabilities, await engine.contentHash(), { pngCompressionLevel: 6, imageMetadata: 'full' }),
    logPrompts: false,
    uploadRetryMs: 1000,
    now: Date.now,
  })
  return {
    async runJob(input, options = {}) {
      const id = randomUUID()
      await store.create({ id, owner: 'public', createdAt: Date.now(), priority: 0, input, ...options })
      const status = await processJob({ data: { id } } as Job<GenerateJobData, string>, id, new AbortController().signal)
      if (status !== 'succeeded') throw new Error(`Expected a job that succeeds, got ${status}`)
    },
    async runBare(input) {
      await engine.generate(`${randomUUID()}/bare`, toEngineParams(input))
    },
    async close() {
      await engine.close()
      await storage.close()
      await outbox.close()
      redis.disconnect()
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
