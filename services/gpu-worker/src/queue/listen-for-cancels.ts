/**
 * Learns when jobs that run here are canceled. Cancels arrive as messages; one that was published while the connection was down is found in
 * the record. Runs in the worker's main process.
 */
import { createKeys } from '@easel/contract'
import type { JobStore, RedisConnection } from '@easel/job-store'
import type { ActiveJobs } from './active-jobs.ts'

export interface ListenForCancelsOptions {
  /** A connection for pub/sub alone. */
  subscriber: RedisConnection
  prefix: string
  store: JobStore
  active: ActiveJobs
  onCancel: (jobId: string) => void
  onError: (error: Error) => void
}

/** Resolves when no further message will be missed. */
export async function listenForCancels(options: ListenForCancelsOptions): Promise<void> {
  const { subscriber, prefix, store, active, onCancel, onError } = options
  const { cancelChannel } = createKeys(prefix)
  subscriber.on('message', (channel, jobId) => {
    if (channel === cancelChannel) onCancel(jobId)
  })
  subscriber.on('ready', () => {
    for (const jobId of active.ids)
      store
        .isCancelRequested(jobId)
        .then((requested) => requested && onCancel(jobId))
        .catch(onError)
  })
  await subscriber.subscribe(cancelChannel)
}
