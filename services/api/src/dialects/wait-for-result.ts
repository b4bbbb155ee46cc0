/**
 * For dialects whose one request makes pictures and answers with them. A caller that leaves cannot ask for its job again, so the job is
 * canceled, unless an Idempotency-Key lets it come back.
 */
import type { Context } from 'hono'
import { ProblemError, isEnded } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps, AppEnv } from '../app-deps.ts'
import { cancelJob } from '../jobs/cancel-job.ts'

/** The record once it has ended, however it did. Throws `wait_timeout`. */
export async function waitForResult(deps: AppDeps, c: Context<AppEnv>, { id }: JobRecord): Promise<JobRecord> {
  const { follower, config, stopping } = deps
  const { signal } = c.req.raw
  const waited = { timeoutMs: config.inferenceWaitSeconds * 1000, signal: AbortSignal.any([signal, stopping]) }
  const ended = await follower.waitForEnd(id, waited)
  if (ended !== undefined && isEnded(ended.status)) return ended
  if (signal.aborted) await cancelAbandoned(deps, c, id)
  throw new ProblemError('wait_timeout', `The job ${id} did not end within ${config.inferenceWaitSeconds} seconds and goes on.`)
}

/** Cancels the job of a caller that has left. */
export async function cancelAbandoned(deps: AppDeps, c: Context<AppEnv>, id: string): Promise<void> {
  if (c.req.header('idempotency-key') !== undefined) return
  try {
    await cancelJob(deps, id, c.var.owner)
    c.var.logger.info({ jobId: id }, 'caller has left, job canceled')
  } catch (error) {
    // It has ended meanwhile, or Redis is away: nobody is there to be told.
    c.var.logger.debug({ err: error, jobId: id }, 'job of a caller that has left')
  }
}
