/**
 * The metrics of this worker, for Prometheus. Each worker has its own registry, so that two in one process do not mix. Code that sees something
 * happen reports it here. What the engine process counts itself is taken from its stats, whose counts restart with every process.
 * Runs in the worker's main process.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { OnEnd } from '@easel/job-store'
import type { Engine } from './engine/engine.ts'
import type { EngineStats, EngineStep, EngineTimings } from './engine/protocol.ts'

export interface WorkerMetrics {
  readonly registry: Registry
  countEnd: OnEnd
  /** A job was started for the first time, this many ms after it was submitted. */
  observeWait(ms: number): void
  observeStep(step: EngineStep): void
  observePhases(timings: EngineTimings): void
  /** Encoding of the files and their way to the store. */
  observeUpload(ms: number): void
  countStall(): void
  countLostLocks(jobs: number): void
  /** Adds what the engine has counted. */
  takeStats(stats: EngineStats): void
  /** From now on reports this engine's restarts and recycles. */
  follow(engine: Pick<Engine, 'restarts' | 'recycles'>): void
}

const waitBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
const workBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const rowBuckets = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64]

// oxlint-disable-next-line max-lines-per-function -- one metric after another.
export function createWorkerMetrics(): WorkerMetrics {
  const registry = new Registry()
  const registers = [registry]
  const histogram = (name: string, help: string, buckets: number[]): Histogram => new Histogram({ name, help, buckets, registers })
  const counter = (name: string, help: string): Counter => new Counter({ name, help, registers })
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers })

  const ends = new Counter({
    name: 'easel_jobs_total',
    help: 'Jobs whose end this process claimed; code is empty unless failed.',
    labelNames: ['status', 'code'],
    registers,
  })
  // If a series only appeared with its first event, there would be no rate for that event.
  for (const status of ['succeeded', 'canceled']) ends.inc({ status, code: '' }, 0)
  for (const code of ['engine_crashed', 'engine_hung', 'out_of_memory', 'storage_unavailable', 'timeout', 'expired', 'internal'])
    ends.inc({ status: 'failed', code }, 0)
  const wait = histogram('easel_job_wait_seconds', 'Time from the submit of a job to its first start.', waitBuckets)
  const encode = histogram('easel_encode_duration_seconds', 'Text encoding of a job, its wait for the device included.', workBuckets)
  const step = histogram('easel_step_duration_seconds', 'One run of the transformer, for all rows in it.', workBuckets)
  const stepWait = histogram('easel_step_wait_seconds', 'Longest wait of a job’s rows for a run of the transformer.', workBuckets)
  const decode = histogram('easel_decode_duration_seconds', 'Decoding of a job’s pictures, its wait for the device included.', workBuckets)
  const upload = histogram('easel_upload_duration_seconds', 'File encoding and upload of a job’s pictures.', workBuckets)
  const rows = histogram('easel_batch_rows', 'Rows in a run of the transformer.', rowBuckets)
  const gain = gauge('easel_batching_gain', 'Device time that the rows would have taken one by one, over what they took.')
  const memory = gauge('easel_engine_memory_bytes', 'Memory of the engine process, without files that are only mapped.')
  const memoryWaiting = gauge('easel_engine_memory_waiting', 'Jobs in the engine that wait for memory before they begin.')
  const stalls = counter('easel_job_stalls_total', 'Jobs found abandoned by a worker and put back.')
  const lostLocks = counter('easel_job_lock_losses_total', 'Runs of jobs in which this worker lost the lock.')
  const sinceStart = {
    shortages: counter('easel_engine_memory_shortages_total', 'Times that the runtime has run out of memory.'),
    hits: counter('easel_prompt_cache_hits_total', 'Prompts whose embeddings were kept from before.'),
    misses: counter('easel_prompt_cache_misses_total', 'Prompts that had to be encoded.'),
  }
  const taken = { hits: 0, misses: 0, shortages: 0 }

  return {
    registry,
    countEnd: (status, code) => ends.inc({ status, code: code ?? '' }),
    observeWait: (ms) => wait.observe(ms / 1000),
    observeStep({ rows: count, durationMs, waitMs }) {
      step.observe(durationMs / 1000)
      stepWait.observe(waitMs / 1000)
      rows.observe(count)
    },
    observePhases({ encodeMs, decodeMs }) {
      encode.observe(encodeMs / 1000)
      decode.observe(decodeMs / 1000)
    },
    observeUpload: (ms) => upload.observe(ms / 1000),
    countStall: () => stalls.inc(),
    countLostLocks: (jobs) => lostLocks.inc(jobs),
    takeStats({ memoryBytes, pipeline }) {
      memory.set(memoryBytes)
      gain.set(pipeline.batchingGain)
      memoryWaiting.set(pipeline.memory.waiting)
      const { hits, misses } = pipeline.promptCache
      for (const [name, now] of Object.entries({ hits, misses, shortages: pipeline.shortages }) as [keyof typeof taken, number][]) {
        sinceStart[name].inc(now < taken[name] ? now : now - taken[name])
        taken[name] = now
      }
    },
    follow(engine) {
      const follow = (name: string, help: string, read: () => number): void => {
        const followed = new Counter({
          name,
          help,
          registers: [],
          collect() {
            this.reset()
            this.inc(read())
          },
        })
        registry.registerMetric(followed)
      }
      follow('easel_engine_restarts_total', 'Engine processes that died and were started again.', () => engine.restarts)
      follow(
        'easel_engine_recycles_total',
        'Engine processes that were replaced between jobs because of their memory.',
        () => engine.recycles,
      )
    },
  }
}
