/** Puts the id of a new record into the queue of its model, with the webhook message of its end if one is wanted. The record must exist: whoever takes the id reads everything else there. */
import { toQueuePriority, wantsWebhook } from '@easel/job-store'
import type { NewJobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

/** May be repeated: what is there already is not added again. `again`: the job may have been in the queue before. */
export async function enqueueJob(
  { outbox, queues }: Pick<AppDeps, 'outbox' | 'queues'>,
  record: NewJobRecord,
  { again = false }: { again?: boolean } = {},
): Promise<void> {
  const options = { priority: toQueuePriority(record) }
  // A message that has left the flow waits for the end of the record by itself.
  const inFlow = wantsWebhook(record, 'completed') && !(again && (await outbox.isReleased(record.id)))
  if (inFlow) await queues.addWithWebhook(record.input.model, record.id, options)
  else await queues.add(record.input.model, record.id, options)
  await outbox.add(record, 'queued')
}
