/**
 * Puts jobs back into the queue that have a record without an end but that BullMQ does not carry. This happens when the api ended between
 * writing the record and queueing it, when Redis lost its last writes in a crash, or when BullMQ gave the job up. Also gives jobs of an Easel
 * without shares a place in the fair share. The record decides what a worker then does. Runs in the api.
 */
import { isEnded } from '@easel/contract'
import { toCostMs } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { enqueueJob } from '../jobs/enqueue-job.ts'
import { pagesOfJobs } from './pages-of-jobs.ts'

export type RequeueOrphansNeeds = EnlistNeeds & Pick<AppDeps, 'logger' | 'now' | 'outbox' | 'queues'>
type EnlistNeeds = Pick<AppDeps, 'apiKeys' | 'registry' | 'store'>

/** A job younger than this, in milliseconds, may still be on its way into the queue. */
const minAgeMs = 30_000

/** Returns how many jobs it queued. */
export async function requeueOrphans(deps: RequeueOrphansNeeds): Promise<number> {
  const { logger, now, queues, registry, store } = deps
  const models = (await registry.models()).map((model) => model.id)
  let requeued = 0
  for (const status of ['queued', 'running'] as const) {
    for await (const ids of pagesOfJobs(store, status, now() - minAgeMs)) {
      if (status === 'queued') await enlistJobs(deps, ids)
      for (const id of await queues.findMissing(models, ids)) {
        const record = await store.get(id)
        // It may have ended since it was listed.
        if (record === undefined || isEnded(record.status)) continue
        await queues.remove(record.input.model, id)
        await enqueueJob(deps, record, { again: true })
        logger.warn({ jobId: id, status, requestId: record.requestId }, 'a job that no queue carried is queued again')
        requeued++
      }
    }
  }
  return requeued
}

/** Gives those of the queued jobs that have no place in the fair share one; each has waited since its creation. */
async function enlistJobs({ apiKeys, registry, store }: EnlistNeeds, ids: readonly string[]): Promise<void> {
  for (const { id, input, owner } of await store.getMany(await store.findUnlisted(ids)))
    await store.enlist(id, { costMs: toCostMs(input, await registry.model(input.model)), weight: apiKeys.weightOf(owner) })
}
