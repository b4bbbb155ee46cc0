/**
 * Removes a job with everything that belongs to it: pictures, webhook messages, and every trace in Redis. A job that has not ended is ended
 * first, so that its followers see an end and its worker stops. Pictures are deleted before the record: if their store does not answer, the
 * job still exists and can be deleted again. Runs in the api.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ProblemError, isEnded, toImageKeys } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'
import { findJob } from './find-job.ts'
import type { FindNeeds } from './find-job.ts'
import { releaseInputs } from '../inputs/hold-inputs.ts'

export type DeleteNeeds = FindNeeds & Pick<AppDeps, 'inputs' | 'logger' | 'outbox' | 'queues' | 'storage'>

const [removeTries, betweenTriesMs] = [20, 50]

/** Throws `not_found` for a job that never existed, no longer exists, or belongs to another owner. */
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
  // An id that is left in a queue finds no record and does nothing. Removing a message that waits for the job removes the id too.
  await outbox.remove(id)
  const remove = async (): Promise<boolean> => await queues.remove(record.input.model, id)
  // The worker of a job that has just ended is about to release its id; the worker of a running job removes the id itself.
  for (let tries = 1; !(await remove()) && isEnded(record.status) && tries < removeTries; tries++) await sleep(betweenTriesMs)
}
