/**
 * The webhook message about an event, from the record of its job, in the shape of the dialect through which the job was made and with URLs that
 * begin as in that request. Runs in the api.
 */
import type { WebhookEventName } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { dialects } from '../dialects/dialects.ts'
import { toJob } from '../jobs/to-job.ts'
import type { ToJobNeeds } from '../jobs/to-job.ts'
import { calledBy, toPublicUrl } from '../public-url.ts'
import { toMessage } from './to-message.ts'
import type { RenderBody, WebhookMessage } from './to-message.ts'

export type RenderMessageNeeds = ToJobNeeds & Pick<AppDeps, 'now'>

/** Undefined if there is no message about the event. */
export async function renderMessage(
  deps: RenderMessageNeeds,
  record: JobRecord,
  event: WebhookEventName,
): Promise<WebhookMessage | undefined> {
  return await calledBy(record.publicUrl, async () => {
    return toMessage(event, await toJob(deps, record), deps.now(), renderAs(record.dialect, toPublicUrl(deps.config)))
  })
}

/** The shape of the dialect that made the job; undefined for this service's own. */
export function renderAs(dialect: string | undefined, publicUrl: string): RenderBody | undefined {
  const toBody = dialect === undefined ? undefined : dialects.get(dialect)?.toWebhookBody
  return toBody && (({ job }) => toBody(job, { publicUrl }))
}
