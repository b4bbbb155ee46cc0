/**
 * Makes a job's webhook message: its id and its body. A message about an event shows the job as it was at that event, even if it is sent later;
 * only `progress` shows the moment of sending. The body may have another service's shape. Pure. Runs in the api.
 */
import { isEnded, maxWebhookBodyBytes, promptFields, webhookMessageId } from '@easel/contract'
import type { Job, JobInput, WebhookBody, WebhookEventName } from '@easel/contract'

export interface WebhookMessage {
  /** `webhook-id`. */
  id: string
  /** JSON of at most `maxWebhookBodyBytes` bytes. */
  body: string
}

/** What the body says about an event; `job` as it was at that event. */
export type RenderBody = (told: { event: WebhookEventName; timestamp: string; job: Job }) => unknown

const renderBody: RenderBody = ({ event, timestamp, job }) => ({ type: `job.${event}`, timestamp, data: job }) satisfies WebhookBody

/** The message about an event; undefined when the event has not happened or, for progress, is out of date. */
export function toMessage(event: WebhookEventName, job: Job, now: number, render: RenderBody = renderBody): WebhookMessage | undefined {
  const seen = toJobAt(event, job)
  if (seen === undefined) return undefined
  const timestamps = { queued: job.created_at, started: job.started_at, progress: null, completed: job.completed_at }
  const timestamp = timestamps[event] ?? new Date(now).toISOString()
  const id = webhookMessageId(job.id, event, event === 'progress' ? job.progress.step : undefined)
  return { id, body: toBody(seen, (told) => render({ event, timestamp, job: told })) }
}

function toJobAt(event: WebhookEventName, job: Job): Job | undefined {
  const before: Job = {
    ...job,
    completed_at: null,
    progress: { ...job.progress, step: 0 },
    output: null,
    error: null,
    timings: null,
    receipt: null,
    replay: job.replay === null ? null : { ...job.replay, identical: null, note: null },
  }
  if (event === 'queued') {
    if (job.status === 'queued') return job
    return { ...before, status: 'queued', started_at: null, queue_position: null, eta_seconds: null }
  }
  if (event === 'started')
    return job.started_at === null ? undefined : { ...before, status: 'running', queue_position: null, eta_seconds: null }
  if (event === 'progress') return job.status === 'running' ? job : undefined
  return isEnded(job.status) ? job : undefined
}

/** The lengths to which each prompt is cut, tried in order until the body fits. */
const promptLimits = [4000, 2000, 1000, 500, 200, 100] as const

/**
 * JSON of at most `maxWebhookBodyBytes` bytes. The receipt, which is available from the job at any time, is omitted first. The receiver knows the
 * prompts, so these are cut next, and marked as cut; then the presigned links are omitted, which are also available from the job.
 */
function toBody(seen: Job, render: (job: Job) => unknown): string {
  const whole = JSON.stringify(render(seen))
  if (fits(whole)) return whole
  const shorter: Job = { ...seen, receipt: null }
  let text = JSON.stringify(render(shorter))
  if (fits(text)) return text
  for (const job of [shorter, withoutDirectUrls(shorter)]) {
    for (const limit of promptLimits) {
      text = JSON.stringify(render({ ...job, input: shortenPrompts(job.input, limit) }))
      if (fits(text)) return text
    }
  }
  throw new Error(`Expected a body of at most ${maxWebhookBodyBytes} bytes, got ${Buffer.byteLength(text)}`)
}

function fits(text: string): boolean {
  return Buffer.byteLength(text) <= maxWebhookBodyBytes
}

function shortenPrompts(input: JobInput, limit: number): JobInput {
  const short = { ...input }
  for (const field of promptFields) {
    // Cuts at whole characters, because half of a surrogate pair is not valid text.
    const characters = Array.from(input[field] ?? '')
    if (characters.length > limit)
      short[field] = `${characters.slice(0, limit).join('')}… [the first ${limit} of ${characters.length} characters]`
  }
  return short
}

function withoutDirectUrls(job: Job): Job {
  if (job.output === null) return job
  // JSON omits undefined fields.
  const images = job.output.images.map((image) => ({ ...image, direct_url: undefined, direct_url_expires_at: undefined }))
  return { ...job, output: { images } }
}
