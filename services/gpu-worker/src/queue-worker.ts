/**
 * Takes jobs from the queue of a model and tells what happens to them there. Runs in the worker's main process.
 *
 * Invariant: every job that runs is in `active`, from before anything is done for it until its run is over. Log lines name job and request
 * by fields of events; what BullMQ says in text alone is logged as it is.
 */
import { UnrecoverableError } from 'bullmq'
import type { Telemetry } from 'bullmq'
import type { Logger } from 'pino'
import { generateQueueName } from '@easel/contract'
import { createJobLines, findRequestId } from '@easel/job-store'
import type { JobStore, RedisConnection } from '@easel/job-store'
import type { ActiveJobs } from './active-jobs.ts'
import { FairWorker } from './fair-worker.ts'
import type { ProcessJob, StopReason } from './process-job.ts'
import type { WorkerMetrics } from './worker-metrics.ts'

export interface QueueWorkerOptions {
  redis: RedisConnection
  prefix: string
  modelId: string
  /** Jobs of anyone at once; as many again may run, each of an owner of whom nothing else runs here. */
  concurrency: number
  /** Most jobs of one owner at once on all workers; 0 = no limit. */
  maxRunningOfOwner: number
  /** Milliseconds after which the jobs of a worker that died go to another one. */
  lockDurationMs: number
  processJob: ProcessJob
  active: ActiveJobs
  store: JobStore
  metrics: WorkerMetrics
  telemetry: Telemetry | undefined
  /** Told of what BullMQ says of its connections and commands. */
  onError: (error: Error) => void
  logger: Logger
}

export interface QueueWorker {
  readonly bull: FairWorker
  /** Aborts the signal of a job that runs here; of any other it is nothing. */
  stopJob(jobId: string, reason: StopReason): void
}

/** A job may be found stalled again and again without being to blame; strikes are counted elsewhere. */
const maxStalledCount = 1000

/** It takes no job before `bull.run()`. */
export function createQueueWorker(options: QueueWorkerOptions): QueueWorker {
  const { redis, prefix, modelId, concurrency, maxRunningOfOwner, lockDurationMs, processJob, active, store, telemetry } = options
  const lines = createJobLines({ redis, prefix })
  const bull = new FairWorker(
    generateQueueName(modelId),
    async (job, token, signal) => {
      active.begin(job.data.id)
      try {
        return await processJob(job, token, signal)
      } finally {
        active.end(job.data.id)
      }
    },
    {
      connection: redis,
      prefix,
      places: concurrency,
      choose: (running) => lines.choose(modelId, { running, places: concurrency, maxRunningOfOwner }),
      readOwner: async (jobId) => (await store.get(jobId))?.owner,
      lockDuration: lockDurationMs,
      stalledInterval: lockDurationMs,
      maxStalledCount,
      skipVersionCheck: true,
      telemetry,
    },
  )
  tellRuns(bull, options)
  tellLocks(bull, options)
  return { bull, stopJob: (jobId, reason) => void bull.cancelJob(jobId, reason) }
}

/** Of these two BullMQ has just heard from Redis, so that a read is no wait. */
function tellRuns(bull: QueueWorker['bull'], { store, metrics, logger }: QueueWorkerOptions): void {
  bull.on('failed', (job, error) => {
    // An end that the record knows has been told with it.
    if (error instanceof UnrecoverableError) return
    const jobId = job?.data.id
    void findRequestId(store, jobId ?? '').then((requestId) => logger.error({ jobId, requestId, err: error }, 'run broke off'))
  })
  bull.on('stalled', (jobId) => {
    metrics.countStall()
    const message = 'job was left by its worker and is put back'
    void findRequestId(store, jobId).then((requestId) => logger.warn({ jobId, requestId }, message))
  })
}

function tellLocks(bull: QueueWorker['bull'], { active, metrics, onError, logger }: QueueWorkerOptions): void {
  /** Of the active jobs, those whose lock is lost. */
  let lockless = new Set<string>()
  /** BullMQ tells a lock that was not renewed twice: by an event with the job's id, then, at once, by an error that has it in its text. */
  let repeated = 0
  bull.on('lockRenewalFailed', (jobIds) => {
    repeated = jobIds.length
    queueMicrotask(() => (repeated = 0))
    // Told again at every renewal until the run is over.
    lockless = new Set([...lockless].filter((jobId) => active.has(jobId)))
    const lost = jobIds.filter((jobId) => active.has(jobId) && !lockless.has(jobId))
    for (const jobId of lost) lockless.add(jobId)
    metrics.countLostLocks(lost.length)
    for (const jobId of lost)
      logger.warn({ jobId, requestId: active.requestId(jobId) }, 'the lock of a job is lost; another worker may run it too')
  })
  bull.on('error', (error) => {
    if (repeated > 0) repeated--
    else onError(error)
  })
}
