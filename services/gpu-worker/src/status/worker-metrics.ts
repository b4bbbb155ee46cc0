/**
 * The metrics of this worker, for Prometheus. Each worker has its own registry, so that two in one process do not mix. Other code reports events
 * here. What the engine process counts itself is taken from its stats, whose counts restart with every process.
 * Runs in the worker's main process.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { jobErrorCodes } from '@easel/contract'
import type { OnEnd } from '@easel/job-store'
import type { Engine } from '../engine/engine.ts'
import type { EngineStats, EngineStep, EngineTimings } from '../engine/protocol.ts'

const waitBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
const workBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const rowBuckets = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64]

export class WorkerMetrics {
  readonly registry = new Registry()
  readonly #ends = new Counter({
    name: 'easel_jobs_total',
    help: 'Jobs that this process ended; code is empty unless they failed.',
    labelNames: ['status', 'code'],
    registers: [this.registry],
  })
  readonly #wait = this.#histogram('easel_job_wait_seconds', 'Time from the submission of a job to its first start.', waitBuckets)
  readonly #encode = this.#histogram(
    'easel_encode_duration_seconds',
    'Text encoding of a job, including its wait for the device.',
    workBuckets,
  )
  readonly #step = this.#histogram('easel_step_duration_seconds', 'One run of the transformer, for all rows in it.', workBuckets)
  readonly #stepWait = this.#histogram('easel_step_wait_seconds', 'Longest wait of a job’s rows for a run of the transformer.', workBuckets)
  readonly #decode = this.#histogram(
    'easel_decode_duration_seconds',
    'Decoding of a job’s pictures, including their wait for the device.',
    workBuckets,
  )
  readonly #upload = this.#histogram('easel_upload_duration_seconds', 'File encoding and upload of a job’s pictures.', workBuckets)
  readonly #rows = this.#histogram('easel_batch_rows', 'Rows in a run of the transformer.', rowBuckets)
  readonly #gain = this.#gauge('easel_batching_gain', 'Device time that the rows would have taken one by one, divided by what they took.')
  readonly #memory = this.#gauge('easel_engine_memory_bytes', 'Memory of the engine process, without mapped files.')
  readonly #memoryWaiting = this.#gauge('easel_engine_memory_waiting', 'Jobs in the engine that wait for memory before they begin.')
  readonly #stalls = this.#counter('easel_job_stalls_total', 'Jobs found abandoned by a worker and put back.')
  readonly #lostLocks = this.#counter('easel_job_lock_losses_total', 'Runs of jobs in which this worker lost the lock.')
  /** What the engine process counts from its start. */
  readonly #sinceStart = {
    shortages: this.#counter('easel_engine_memory_shortages_total', 'How many times the runtime has run out of memory.'),
    hits: this.#counter('easel_prompt_cache_hits_total', 'Prompts whose embeddings were in the cache.'),
    misses: this.#counter('easel_prompt_cache_misses_total', 'Prompts that had to be encoded.'),
  }
  /** What was in the engine's last stats. */
  readonly #taken = { hits: 0, misses: 0, shortages: 0 }

  constructor() {
    // If a series only appeared with its first event, there would be no rate for that event.
    for (const status of ['succeeded', 'canceled']) this.#ends.inc({ status, code: '' }, 0)
    for (const code of jobErrorCodes) this.#ends.inc({ status: 'failed', code }, 0)
  }

  countEnd(...[status, code]: Parameters<OnEnd>): void {
    this.#ends.inc({ status, code: code ?? '' })
  }

  /** A job was started for the first time, this many ms after it was submitted. */
  observeWait(ms: number): void {
    this.#wait.observe(ms / 1000)
  }

  observeStep({ rows, durationMs, waitMs }: EngineStep): void {
    this.#step.observe(durationMs / 1000)
    this.#stepWait.observe(waitMs / 1000)
    this.#rows.observe(rows)
  }

  observePhases({ encodeMs, decodeMs }: EngineTimings): void {
    this.#encode.observe(encodeMs / 1000)
    this.#decode.observe(decodeMs / 1000)
  }

  /** The time to encode the files and upload them. */
  observeUpload(ms: number): void {
    this.#upload.observe(ms / 1000)
  }

  countStall(): void {
    this.#stalls.inc()
  }

  countLostLocks(jobs: number): void {
    this.#lostLocks.inc(jobs)
  }

  /** Adds what the engine has counted. */
  takeStats({ memoryBytes, pipeline }: EngineStats): void {
    this.#memory.set(memoryBytes)
    this.#gain.set(pipeline.batchingGain)
    this.#memoryWaiting.set(pipeline.memory.waiting)
    const { hits, misses } = pipeline.promptCache
    const counts = { hits, misses, shortages: pipeline.shortages }
    for (const name of ['hits', 'misses', 'shortages'] as const) {
      const [before, now] = [this.#taken[name], counts[name]]
      this.#sinceStart[name].inc(now < before ? now : now - before)
      this.#taken[name] = now
    }
  }

  /** From now on reports this engine's restarts and recycles. */
  follow(engine: Pick<Engine, 'restarts' | 'recycles'>): void {
    this.#follow('easel_engine_restarts_total', 'Engine processes that died and were started again.', () => engine.restarts)
    this.#follow(
      'easel_engine_recycles_total',
      'Engine processes that were replaced between jobs because of their memory.',
      () => engine.recycles,
    )
  }

  #follow(name: string, help: string, read: () => number): void {
    const followed = new Counter({
      name,
      help,
      registers: [],
      collect() {
        this.reset()
        this.inc(read())
      },
    })
    this.registry.registerMetric(followed)
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name, help, buckets, registers: [this.registry] })
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.registry] })
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name, help, registers: [this.registry] })
  }
}
