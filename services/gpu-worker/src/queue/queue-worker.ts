/**
 * Takes jobs from the queue of a model and logs what happens to them there. Runs in the worker's main process.
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
import type { ProcessJob, StopReason } from '../jobs/process-job.ts'
import type { WorkerMetrics } from '../status/worker-metrics.ts'

export interface QueueWorkerOptions {
  redis: RedisConnection
  prefix: string
  modelId: string
  /** How many jobs of any owners run at once; up to as many again may run, each of an owner who has nothing else running here. */
  concurrency: number
  /** The most jobs of one owner at once on all workers together; 0 = no limit. */
  maxRunningOfOwner: number
  /** After this many milliseconds the jobs of a dead worker go to another one. */
  lockDurationMs: number
  processJob: ProcessJob
  active: ActiveJobs
  store: JobStore
  metrics: WorkerMetrics
  telemetry: Telemetry | undefined
  /** Called with the errors of BullMQ's connections and commands. */
  onError: (error: Error) => void
  logger: Logger
}

export interface QueueWorker {
  readonly bull: FairWorker
  /** Aborts the signal of a job that runs here; does nothing for any other job. */
  stopJob(jobId: string, reason: StopReason): void
}

/** A job may be found stalled many times through no fault of its own; strikes are counted elsewhere. */
const maxStalledCount = 1000

/** Takes no job before `bull.run()`. */
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
      choose: (running, taking) => lines.choose(modelId, { running, places: concurrency, taking, maxRunningOfOwner }),
      ownersAreLimited: maxRunningOfOwner > 0,
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

/** BullMQ has just heard from Redis when it emits these two events, so a read does not have to wait. */
function tellRuns(bull: QueueWorker['bull'], { store, metrics, logger }: QueueWorkerOptions): void {
  bull.on('failed', (job, error) => {
    // An end that is in the record has already been logged.
    if (error instanceof UnrecoverableError) return
    const jobId = job?.data.id
    void findRequestId(store, jobId ?? '').then((requestId) => logger.error({ jobId, requestId, err: error }, 'run was interrupted'))
  })
  bull.on('stalled', (jobId) => {
    metrics.countStall()
    const message = 'job was abandoned by its worker and is queued again'
    void findRequestId(store, jobId).then((requestId) => logger.warn({ jobId, requestId }, message))
  })
}

function tellLocks(bull: QueueWorker['bull'], { active, metrics, onError, logger }: QueueWorkerOptions): void {
  /** Those of the active jobs whose lock is lost. */
  let lockless = new Set<string>()
  /** BullMQ reports a lock that was not renewed twice: by an event with the job's id, and right after by an error with the id in its text. */
  let repeated = 0
  bull.on('lockRenewalFailed', (jobIds) => {
    repeated = jobIds.length
    queueMicrotask(() => (repeated = 0))
    // A lost lock is reported again at every renewal until the run is over.
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
