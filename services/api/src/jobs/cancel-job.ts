/** Cancels a job. The record decides what happens; removing the id from the queue only spares a worker from reading it. */
import { ProblemError } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { findJob, missingJob } from './find-job.ts'
import type { FindNeeds } from './find-job.ts'

export type CancelNeeds = FindNeeds & Pick<AppDeps, 'outbox' | 'queues'>

/** When `ended` is false, the job is running and will be canceled at its next step. */
export async function cancelJob(deps: CancelNeeds, id: string, owner: string): Promise<{ record: JobRecord; ended: boolean }> {
  const { input } = await findJob(deps, id, owner)
  const result = await deps.store.requestCancel(id)
  if (result === 'missing') throw missingJob(deps, id)
  const record = await findJob(deps, id, owner)
  if (result === 'canceled') {
    // The message usually waits for the job in the queue and is not added twice; a job that was not queued yet has none.
    await deps.outbox.add(record, 'completed')
    await deps.queues.remove(input.model, id)
  }
  if (result === 'finished') throw new ProblemError('job_finished', `The job has already ended: ${record.status}.`)
  return { record, ended: result !== 'cancel_requested' }
}
