/**
 * The job record in Redis: created by the api, started and ended by workers, canceled by the api. The record is the truth about a job;
 * BullMQ only carries its id. Types only: `create-job-store.ts` does the work. Knows nothing about HTTP, models or object storage.
 */
import type { EndStatus, JobErrorCode, JobStatus, Keys } from '@easel/contract'
import type { JobEnd, JobRecord, JobWork, NewJobRecord } from './job-record.ts'
import type { StreamedJobEvent } from './streamed-event.ts'
import type { StoreOptions } from './store-options.ts'

export interface JobStoreOptions extends StoreOptions {
  /** Called for each end that is claimed through this store, and so by this process. Default none. */
  onEnd?: OnEnd
}

/** `code`: the error code of a failure. */
export type OnEnd = (status: EndStatus, code?: JobErrorCode) => void

export interface CreateOptions {
  /**
   * The key by which a repeated request is recognised, and a fingerprint of the request that covers the bytes of its pictures.
   * `askedFingerprint`: the same, but with the pictures as the request names them; absent for a request without pictures. `formerKeys`: keys
   * under which the request may have been recorded before; they are read and never written. Default: none.
   */
  idempotency?: { key: string; formerKeys?: readonly string[]; fingerprint: string; askedFingerprint?: string; ttlSeconds: number }
  /** The most queued jobs of all owners together; 0 = no limit. */
  maxQueued?: number
  /** The most queued jobs of this owner; 0 = no limit. */
  maxQueuedOfOwner?: number
  /** The most device time, in milliseconds, that this owner's queued jobs may cost together; 0 = no limit. The first is always accepted. */
  maxQueuedMsOfOwner?: number
}

export type IdempotencyKeys = Pick<NonNullable<CreateOptions['idempotency']>, 'key' | 'formerKeys'>

export interface KeyedJob {
  jobId: string
  fingerprint: string
  /** Absent where the request had no picture. */
  askedFingerprint?: string
}

export type CreateResult =
  | { result: 'created' }
  | ({ result: 'exists' } & KeyedJob)
  | { result: 'queue_full' | 'owner_queue_full'; queued: number }
  | { result: 'owner_work_full'; queuedMs: number }

export type StartResult = { result: 'running' | 'ended' | 'canceled' | 'expired'; record: JobRecord } | { result: 'missing' }
export type CancelResult = 'missing' | 'finished' | 'already_canceled' | 'canceled' | 'cancel_requested'
export type EndResult = { result: 'claimed' | 'ended'; status: EndStatus } | { result: 'missing' }

export interface JobPreview {
  step: number
  /** Which of the job's pictures it shows, from 0. */
  image: number
  dataUrl: string
}

export interface ListOptions {
  status?: JobStatus
  /** A job id: only jobs that are older. Default: from the newest. */
  before?: string
  limit: number
}

/** A running job that should have ended, and the worker that runs it. */
export interface DueJob {
  id: string
  worker: string
  reason: 'canceled' | 'timeout'
}

export interface JobStore {
  readonly keys: Keys
  /** Writes a new record as `queued`, unless its idempotency key is in use or a limit is reached. One atomic step. */
  create(record: NewJobRecord, options?: CreateOptions): Promise<CreateResult>
  /** The job that was made under an idempotency key. */
  findKeyed(idempotency: IdempotencyKeys): Promise<KeyedJob | undefined>
  get(id: string): Promise<JobRecord | undefined>
  getMany(ids: readonly string[]): Promise<JobRecord[]>
  /** How much work these jobs are and how far they have come, without their prompts. Jobs that no longer exist are left out. */
  getWorks(ids: readonly string[]): Promise<JobWork[]>
  /** The webhook of the job, without the rest of the record; undefined when it has none or there is no record. */
  getWebhook(id: string): Promise<{ owner: string; url: string } | undefined>
  /** A processor begins to run the job. If the result is not `running`, it must do nothing more. The record is as it is after this call. */
  start(id: string, workerId: string): Promise<StartResult>
  /** Ignored unless the job is running. */
  progress(id: string, step: number, total: number): Promise<void>
  /** Ignored unless the job is running. */
  preview(id: string, preview: JobPreview): Promise<void>
  /** Claims the end. The first claim wins; after an accepted cancel every end is `canceled`. A success also reports the last step if none has. */
  end(id: string, end: JobEnd): Promise<EndResult>
  requestCancel(id: string): Promise<CancelResult>
  isCancelRequested(id: string): Promise<boolean>
  /** Counts a crash of the engine that was running only this job; returns how many there have been. */
  addStrike(id: string): Promise<number>
  /** Keeps the point at which an interrupted job continues, until the job ends or this many seconds have passed. */
  saveCheckpoint(id: string, bytes: Buffer, ttlSeconds: number): Promise<void>
  loadCheckpoint(id: string): Promise<Buffer | undefined>
  /** Newest first. `owner` '' = everyone's. */
  list(owner: string, options: ListOptions): Promise<JobRecord[]>
  count(owner: string, status: JobStatus): Promise<number>
  /** Gives all jobs of one owner to another and returns how many there were. May be repeated. */
  adopt(from: string, to: string): Promise<number>
  /** The ids of jobs that ended before the instant (ms), oldest first. */
  listEndedBefore(instantMs: number, limit: number): Promise<string[]>
  /** The ids of jobs with one status that were created before the instant (ms), oldest first, after a cursor (a job id). */
  listCreatedBefore(status: JobStatus, instantMs: number, options: { after?: string; limit: number }): Promise<string[]>
  /** Those of the ids whose `expiresAt` has passed. */
  findOverdue(ids: readonly string[]): Promise<string[]>
  /** Those of the running jobs whose cancel was requested, or whose timeout has passed since their first start. */
  findDueToEnd(ids: readonly string[]): Promise<DueJob[]>
  /** Fails a queued job with `expired` when its `expiresAt` has passed; true when it did. `why` is added to the error's message. */
  expire(id: string, why?: string): Promise<boolean>
  /** Those of the queued jobs that have no place in the fair share, because an Easel without shares made them. */
  findUnlisted(ids: readonly string[]): Promise<string[]>
  /** Gives such a job its place. */
  enlist(id: string, share: { costMs: number; weight: number }): Promise<void>
  /**
   * Removes every trace of the job from Redis: record, indexes, events, checkpoint, webhook attempts, and the idempotency key that made it.
   * `keepAttempts`: keep the attempts for a message that is still to be sent. Default false.
   */
  delete(id: string, options?: { keepAttempts?: boolean }): Promise<void>
  /** The events after the entry id (`0` = from the beginning). */
  readEvents(id: string, after: string): Promise<StreamedJobEvent[]>
  /** Adds to a counter that all replicas share. */
  increment(counter: string, by?: number): Promise<void>
  counters(): Promise<Record<string, number>>
}
