/**
 * Takes a job away with everything that is kept of it: pictures, webhook messages, and every trace in Redis. One that has not ended is ended
 * first, so that whoever follows it hears of an end and its worker stops. The pictures go first: when their store does not answer,
 * the job is still there to be deleted again. Runs in the api.
 */
import { ProblemError, isEnded, toImageKeys } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'
import { findJob } from './find-job.ts'
import type { FindNeeds } from './find-job.ts'
import { releaseInputs } from '../inputs/hold-inputs.ts'

export type DeleteNeeds = FindNeeds & Pick<AppDeps, 'inputs' | 'logger' | 'outbox' | 'queues' | 'storage'>

/** Throws `not_found` for a job that is not there, any more or at all, or is another owner's. */
export async function deleteJob(deps: DeleteNeeds, id: string, owner: string): Promise<void> {
  const { outbox, queues, storage, store } = deps
  const record = await findJob(deps, id, owner).catch((error: unknown) => {
    throw error instanceof ProblemError && error.code === 'expired' ? new ProblemError('not_found', 'There is no such job.') : error
  })
  if (!isEnded(record.status) && (await store.requestCancel(id)) === 'cancel_requested') await store.end(id, { status: 'canceled' })
  const [failure] = (await storage.deleteMany(toImageKeys(record))).values()
  if (failure !== undefined) throw failure
  await releaseInputs(deps, record)
  await store.delete(id)
  // What is left of it in a queue finds no record and does nothing. A message that waits for the job takes it along.
  await outbox.remove(id)
  await queues.remove(record.input.model, id)
}
