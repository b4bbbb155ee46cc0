/**
 * What the status page of operators is told (`GET /admin/status`). Every list has a bound, and nothing in it is what a client wrote: no
 * prompts, no pictures, and of a webhook's URL only its origin.
 */
import type { JobErrorCode } from './errors.ts'
import type { WebhookEventName } from './webhook-events.ts'
import type { JobStatus } from './job.ts'

export interface ServiceStatus {
  /** Instant of the reading. */
  read_at: string
  /** Jobs whose records are kept. */
  jobs: Record<JobStatus, number>
  models: Excerpt<ModelStatus>
  workers: Excerpt<WorkerStatus>
  failures: FailureStatus
  shares: ShareStatus
  webhooks: WebhookStatus
}

/** The first of a list. */
export interface Excerpt<T> {
  /** How many there are. */
  total: number
  listed: T[]
}

export interface ModelStatus {
  id: string
  /** Whether it is the model of requests that name none. */
  default: boolean
  /** Workers that can take its jobs now. */
  workers: number
  /** Jobs that no worker runs, and jobs that one does. */
  waiting: number
  active: number
  /** Age of the job that waits longest; 0 when none waits. */
  oldest_age_seconds: number
  /** Waiting work, in seconds of one worker. */
  gpu_seconds_queued: number
  /** Measured milliseconds of a step of one default-sized picture; null before the first. */
  step_ms: number | null
  /** Instant at which a worker announced it last. */
  announced_at: string
}

export interface WorkerStatus {
  id: string
  model: string
  device: string
  /** Whether it takes jobs; false while it loads its model, at first or again, and while it ends. */
  ready: boolean
  /** Instant of its last heartbeat. */
  heard_at: string
  /** Jobs running now, and the most that run at once. */
  active: number
  concurrency: number
  /** Resident memory of the engine process. */
  engine_memory_bytes: number
  /** Memory of the GPU; absent without one. */
  gpu?: { memory_allocated_gb: number; memory_reserved_gb: number }
  /** Mean of the rows in a step since the engine process began; null before its first step. */
  rows_per_step: number | null
  /** Time that the rows would have taken one by one, over what they took; null before the first step. */
  batching_gain: number | null
  /** Rows that wait for a step, and jobs that wait for memory. */
  waiting_rows: number
  memory_waiting: number
  /** Times that the runtime has run out of memory. */
  memory_shortages: number
}

/** Of the failed jobs whose records are kept, those that were made last. */
export interface FailureStatus {
  /** Failed jobs that were looked at. */
  looked_at: number
  /** By code and sentence, those with the latest end first. */
  listed: Failure[]
}

export interface Failure {
  code: JobErrorCode
  /** The sentence that the job's owner is told. */
  message: string
  retryable: boolean
  /** Jobs that failed so. */
  count: number
  /** The one of them that ended last. */
  latest: { job_id: string; model: string; owner: string; ended_at: string }
}

export interface ShareStatus {
  /** Whoever has jobs, in order of their turns, and then whoever has used most of the device. */
  listed: OwnerShare[]
  /** What all others together have used of the device. */
  others_gpu_seconds: number
}

export interface OwnerShare {
  /** Name of the API key, its hash, or `public`. */
  owner: string
  weight: number
  running: number
  waiting: number
  /** Estimated time of the device of the jobs that wait. */
  gpu_seconds_queued: number
  /** Time of the device that its jobs have had: of those that ended since midnight UTC, and of all. */
  gpu_seconds_today: number
  gpu_seconds: number
}

export interface WebhookStatus {
  /** Messages that wait for their first or next attempt. */
  waiting: number
  sending: number
  /** Messages of the last hour that were not delivered and are not tried again. */
  given_up: number
  /** Messages that wait, those whose next attempt comes first before others. */
  listed: WaitingWebhook[]
}

export interface WaitingWebhook {
  job_id: string
  event: WebhookEventName
  /** Owner of the job, and scheme, host and port of the receiver; null when the job's record is gone. */
  owner: string | null
  receiver: string | null
  /** Attempts that failed. */
  attempts: number
  /** Why the last one did; null before. */
  reason: string | null
  /** Null: as soon as there is a place. */
  next_attempt_at: string | null
}
