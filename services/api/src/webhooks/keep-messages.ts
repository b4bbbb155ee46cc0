/**
 * Lets webhook messages outlive the record they tell of: before a record goes, each message of it that still waits to be delivered is given
 * its body and its receiver to keep. One about progress has nothing to tell by then. Runs in the api.
 */
import { webhookEventNames } from '@easel/contract'
import { wantsWebhook } from '@easel/job-store'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { renderMessage } from './render-message.ts'

/** Whether any message waits: the attempts that are written down must then stay too. */
export async function keepMessages(deps: AppDeps, record: JobRecord): Promise<boolean> {
  const { webhook: url, id: jobId, owner, requestId } = record
  if (url === undefined) return false
  const events = webhookEventNames.filter((event) => wantsWebhook(record, event))
  const unsent = await deps.outbox.findUnsent(jobId, events)
  for (const event of unsent) {
    const made = await renderMessage(deps, record, event)
    if (made !== undefined) await deps.outbox.keep(jobId, event, { ...made, owner, url, ...(requestId !== undefined && { requestId }) })
  }
  return unsent.length > 0
}
