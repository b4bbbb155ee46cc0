/**
 * For dialects in which one request makes pictures and answers with them. A caller that disconnects cannot ask for its job again, so the job
 * is canceled, unless an Idempotency-Key lets the caller come back.
 */
import type { Context } from 'hono'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps, AppEnv } from '../app-deps.ts'
import { cancelJob } from '../jobs/cancel-job.ts'
import type { CancelNeeds } from '../jobs/cancel-job.ts'
import { toUnfinished, waitForEnd } from '../jobs/wait-for-end.ts'
import type { WaitNeeds } from '../jobs/wait-for-end.ts'

export type WaitForResultNeeds = WaitNeeds & CancelNeeds & Pick<AppDeps, 'config'>

/** The record once the job has ended in any way. Throws a problem that says why it has not. */
export async function waitForResult(deps: WaitForResultNeeds, c: Context<AppEnv>, record: JobRecord): Promise<JobRecord> {
  const timeoutMs = deps.config.inferenceWaitSeconds * 1000
  const waited = await waitForEnd(deps, record, { timeoutMs, left: c.req.raw.signal })
  if (waited.outcome === 'ended') return waited.record
  if (waited.outcome === 'left') await cancelAbandoned(deps, c, record.id)
  throw toUnfinished(waited, timeoutMs)
}

/** Cancels the job of a caller that has disconnected. */
export async function cancelAbandoned(deps: CancelNeeds, c: Context<AppEnv>, id: string): Promise<void> {
  if (c.req.header('idempotency-key') !== undefined) return
  try {
    await cancelJob(deps, id, c.var.owner)
    c.var.logger.info({ jobId: id }, 'caller has disconnected, job canceled')
  } catch (error) {
    // It has ended meanwhile, or Redis is away; no one is left who would need to know.
    c.var.logger.debug({ err: error, jobId: id }, 'job of a caller that has disconnected was not canceled')
  }
}
