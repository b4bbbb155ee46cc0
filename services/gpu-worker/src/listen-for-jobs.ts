/**
 * Learns when a new job waits. A lost message costs a second, after which the worker looks by itself. Runs in the worker's main process.
 */
import { createKeys } from '@easel/contract'
import type { JobWaits, RedisConnection } from '@easel/job-store'

export interface ListenForJobsOptions {
  /** A connection for pub/sub alone. */
  subscriber: RedisConnection
  prefix: string
  modelId: string
  /** `owner`: the owner of the waiting job, if known. */
  onJob: (owner?: string) => void
}

export async function listenForJobs({ subscriber, prefix, modelId, onJob }: ListenForJobsOptions): Promise<void> {
  const { waitingChannel } = createKeys(prefix)
  subscriber.on('message', (channel, about) => {
    if (channel !== waitingChannel) return
    const job = JSON.parse(about) as JobWaits
    if (job.model === modelId) onJob(job.owner)
  })
  subscriber.on('ready', () => onJob())
  await subscriber.subscribe(waitingChannel)
}
