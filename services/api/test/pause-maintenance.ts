import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { maintenanceQueueName } from '@easel/contract'
import type { TestApi } from './start-api.ts'

/**
 * Stops the api's own housekeeping, which could do what a test is about to do or to count. Resolves when none is under way any more. Returns
 * the queue, to be resumed or closed.
 */
export async function pauseMaintenance({ deps }: TestApi): Promise<Queue> {
  const queue = new Queue(maintenanceQueueName, { connection: deps.redis, prefix: deps.config.queuePrefix })
  await queue.pause()
  while ((await queue.getActiveCount()) > 0) await sleep(5)
  return queue
}
