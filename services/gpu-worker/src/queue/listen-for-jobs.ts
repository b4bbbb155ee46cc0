/**
 * Learns when a new job waits. A lost message costs a second, after which the worker looks by itself. Runs in the worker's main process.
 */
import { createKeys } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'

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
  subscriber.on('message', (channel, message) => {
    // An older api names no owner.
    const [model, owner] = message.split('\n')
    if (channel === waitingChannel && model === modelId) onJob(owner)
  })
  subscriber.on('ready', () => onJob())
  await subscriber.subscribe(waitingChannel)
}
