/**
 * Waits for the end of a job on behalf of a request. Only this module knows what ends the wait before the job ends; the caller
 * decides how to answer about an unfinished job. Runs in the api.
 */
import { ProblemError, isEnded } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

export type WaitNeeds = Pick<AppDeps, 'follower' | 'graceOver' | 'store'>

export interface WaitOptions {
  /** The longest wait in milliseconds, 0 or more. */
  timeoutMs: number
  /** Aborts when the client has disconnected. */
  left: AbortSignal
}

/**
 * - `ended`: the job has ended in some way.
 * - `timeout`: it has not ended in time.
 * - `stopping`: it has not ended, and the grace of this server's shutdown is over.
 * - `left`: the client has disconnected.
 * - `lost`: Redis could not be read at the end of the time, or the record no longer exists.
 */
type WaitOutcome = 'ended' | 'timeout' | 'stopping' | 'left' | 'lost'

export interface Waited {
  outcome: WaitOutcome
  /** The record as last read. */
  record: JobRecord
  /** The reason, with `lost`. */
  error?: unknown
}

export async function waitForEnd(deps: WaitNeeds, record: JobRecord, { timeoutMs, left }: WaitOptions): Promise<Waited> {
  if (isEnded(record.status)) return { outcome: 'ended', record }
  const { follower, graceOver, store } = deps
  try {
    const ended = await follower.waitForEnd(record.id, { timeoutMs, signal: AbortSignal.any([left, graceOver]), justRead: record })
    if (ended !== undefined) return { outcome: 'ended', record: ended }
    if (left.aborted) return { outcome: 'left', record }
    const latest = await store.get(record.id)
    if (latest === undefined) return { outcome: 'lost', record }
    return { outcome: isEnded(latest.status) ? 'ended' : graceOver.aborted ? 'stopping' : 'timeout', record: latest }
  } catch (error) {
    return { outcome: 'lost', record, error }
  }
}

/** The error for a client that accepts only pictures while the job goes on. `timeoutMs`: the longest wait, if there was one. */
export function toUnfinished({ outcome, record: { id }, error }: Waited, timeoutMs = 0): ProblemError {
  if (outcome === 'stopping') {
    return new ProblemError('stopping', `This server is stopping, and the job ${id} has not ended; it goes on.`, { retryAfterSeconds: 1 })
  }
  if (outcome === 'lost') {
    return new ProblemError('queue_unavailable', `The job ${id} cannot be read.`, { retryAfterSeconds: 5, cause: error })
  }
  return new ProblemError('wait_timeout', `The job ${id} did not end within ${timeoutMs / 1000} seconds and goes on.`)
}
