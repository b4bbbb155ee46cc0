/** Puts the id of a new record into the queue of its model. The record must exist: whoever takes the id reads everything else there. */
import type { NewJobRecord } from '@easel/job-store'
import type { AppDeps } from '../app.ts'

/** BullMQ runs lower numbers first, from 1; requests say higher = earlier, from -10 to 10. */
export function toQueuePriority(priority: number): number {
  return 11 - priority
}

export async function enqueueJob({ queues }: Pick<AppDeps, 'queues'>, record: NewJobRecord): Promise<void> {
  await queues.add(record.input.model, record.id, { priority: toQueuePriority(record.priority) })
}
