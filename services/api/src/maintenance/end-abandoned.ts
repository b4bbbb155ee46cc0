/**
 * Ends running jobs that were canceled or whose `timeout` has passed, if the worker that ran them is no longer alive. With workers scaled to
 * zero nothing else would do it. A live worker ends its own jobs. Runs in the api.
 */
import { jobErrorTable } from '@easel/contract'
import type { JobEnd } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { pagesOfJobs } from './pages-of-jobs.ts'

export type EndAbandonedNeeds = Pick<AppDeps, 'logger' | 'now' | 'outbox' | 'queues' | 'registry' | 'store'>

/** Returns how many jobs it ended. */
export async function endAbandoned({ logger, now, outbox, queues, registry, store }: EndAbandonedNeeds): Promise<number> {
  const alive = new Set((await registry.workers()).map((worker) => worker.id))
  let ended = 0
  for await (const ids of pagesOfJobs(store, 'running', now())) {
    for (const { id, worker, reason } of await store.findDueToEnd(ids)) {
      if (alive.has(worker)) continue
      const record = await store.get(id)
      // If a job is still locked, its worker only seems to be gone. The next round checks it again.
      if (record === undefined || !(await queues.remove(record.input.model, id))) continue
      const end: JobEnd =
        reason === 'canceled' ? { status: 'canceled' } : { status: 'failed', error: { code: 'timeout', ...jobErrorTable.timeout } }
      const claim = await store.end(id, end)
      // Its message usually waits for the job in the queue and is not added twice; a job that was in no queue has none.
      await outbox.add(record, 'completed')
      if (claim.result !== 'claimed') continue
      logger.info({ jobId: id, requestId: record.requestId, reason, worker }, 'a job that its worker had abandoned was ended')
      ended++
    }
  }
  return ended
}
