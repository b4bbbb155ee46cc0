/**
 * What the operators' status page shows (`GET /admin/status`). Every list is limited in length, and nothing in it was written by a client: no
 * prompts, no pictures, and only the origin of a webhook's URL.
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

/** The beginning of a list. */
export interface Excerpt<T> {
  /** The length of the whole list. */
  total: number
  listed: T[]
}

export interface ModelStatus {
  id: string
  /** Whether it is the model of requests that name none. */
  default: boolean
  /** Workers that can take its jobs now. */
  workers: number
  /** Jobs that no worker runs, and jobs that a worker runs. */
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
  /** Whether it takes jobs; false while it loads its model, at the start or again, and while it stops. */
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
  /** How many times the runtime has run out of memory. */
  memory_shortages: number
}

/** The failed jobs that were created last, of those whose records are kept. */
export interface FailureStatus {
  /** How many failed jobs were read. */
  looked_at: number
  /** Grouped by code and message, those with the latest end first. */
  listed: Failure[]
}

export interface Failure {
  code: JobErrorCode
  /** The message that the job's owner sees. */
  message: string
  retryable: boolean
  /** How many jobs failed like this. */
  count: number
  /** The one that ended last. */
  latest: { job_id: string; model: string; owner: string; ended_at: string }
}

export interface ShareStatus {
  /** Owners with waiting jobs, in the order of their turns, and then those who have used most of the device. */
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
  /** Device time that its jobs have had: those that ended since midnight UTC, and all. */
  gpu_seconds_today: number
  gpu_seconds: number
}

export interface WebhookStatus {
  /** Messages that wait for their first or next attempt. */
  waiting: number
  sending: number
  /** Messages of the last hour that were not delivered and are not tried again. */
  given_up: number
  /** Messages that wait, those with the earliest next attempt first. */
  listed: WaitingWebhook[]
}

export interface WaitingWebhook {
  job_id: string
  event: WebhookEventName
  /** Owner of the job, and scheme, host and port of the receiver; null when the job's record is gone. */
  owner: string | null
  receiver: string | null
  /** How many attempts failed. */
  attempts: number
  /** Why the last one failed; null before. */
  reason: string | null
  /** Null: as soon as a delivery slot is free. */
  next_attempt_at: string | null
}
