/**
 * Puts the id of a new record into the queue of its model, with the webhook message about its end if one is wanted. The record must exist,
 * because everything else is read from there.
 */
import { toQueuePriority, wantsWebhook } from '@easel/job-store'
import type { NewJobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

/** May be repeated; nothing is added twice. `again`: the job may have been in the queue before. */
export async function enqueueJob(
  { outbox, queues }: Pick<AppDeps, 'outbox' | 'queues'>,
  record: NewJobRecord,
  { again = false }: { again?: boolean } = {},
): Promise<void> {
  const options = { priority: toQueuePriority(record), owner: record.owner }
  // A message that is no longer in a flow waits for the end in the record by itself.
  const inFlow = wantsWebhook(record, 'completed') && !(again && (await outbox.isReleased(record.id)))
  if (inFlow) await queues.addWithWebhook(record.input.model, record.id, options)
  else await queues.add(record.input.model, record.id, options)
  await outbox.add(record, 'queued')
}
