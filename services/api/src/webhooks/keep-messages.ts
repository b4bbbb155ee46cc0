/**
 * Lets webhook messages outlive their job's record: before a record is removed, each of its messages that still waits for delivery gets its
 * body and its receiver. A message about progress is out of date by then. Runs in the api.
 */
import { webhookEventNames } from '@easel/contract'
import { wantsWebhook } from '@easel/job-store'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { renderMessage } from './render-message.ts'
import type { RenderMessageNeeds } from './render-message.ts'

export type KeepMessagesNeeds = RenderMessageNeeds & Pick<AppDeps, 'outbox'>

/** Whether any message waits, in which case the recorded attempts must stay too. */
export async function keepMessages(deps: KeepMessagesNeeds, record: JobRecord): Promise<boolean> {
  const { webhook: url, id: jobId, owner, requestId } = record
  if (url === undefined) return false
  const events = webhookEventNames.filter((event) => wantsWebhook(record, event))
  const unsent = await deps.outbox.findUnsent(jobId, events)
  for (const event of unsent) {
    const made = await renderMessage(deps, record, event)
    if (made !== undefined) await deps.outbox.keep(jobId, event, { ...made, owner, url, requestId })
  }
  return unsent.length > 0
}
