/**
 * Fails jobs that were not started within their `expires_in`, even while there is no worker that would notice. Runs in the api.
 */
import type { AppDeps } from '../app-deps.ts'
import { findServingWorkers } from '../jobs/find-serving-workers.ts'
import { pagesOfJobs } from './pages-of-jobs.ts'

export type ExpireQueuedNeeds = Pick<AppDeps, 'logger' | 'now' | 'outbox' | 'queues' | 'registry' | 'store'>

/** Returns how many jobs it failed. */
export async function expireQueued({ logger, now, outbox, queues, registry, store }: ExpireQueuedNeeds): Promise<number> {
  const workers = await registry.workers()
  let expired = 0
  for await (const ids of pagesOfJobs(store, 'queued', now())) {
    for (const id of await store.findOverdue(ids)) {
      const record = await store.get(id)
      // A worker may have started it since it was listed; the record decides.
      if (record === undefined) continue
      const isServed = findServingWorkers(workers, record.input.model).length > 0
      if (!(await store.expire(id, isServed ? undefined : `No worker serves ${record.input.model}.`))) continue
      await outbox.add(record, 'completed')
      await queues.remove(record.input.model, id)
      logger.info({ jobId: id, requestId: record.requestId }, 'job expired before it was started')
      expired++
    }
  }
  return expired
}
