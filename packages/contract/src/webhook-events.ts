/** Webhook messages (Standard Webhooks): event types, message ids and the shape of the body. */
import { z } from 'zod'
import { jobSchema } from './job.ts'
import { webhookEventNames } from './job-request.ts'

export type WebhookEventName = (typeof webhookEventNames)[number]
export type WebhookType = `job.${WebhookEventName}`

/**
 * The `webhook-id`: one for each message, the same for all attempts, without dots. Receivers drop an id that they have seen, so the ids of a
 * job's many progress messages end with the step.
 */
export function webhookMessageId(jobId: string, event: WebhookEventName, step?: number): string {
  return `msg_${jobId}_${event}${step === undefined ? '' : `_${step}`}`
}

/** Splits the id of a message in the queue into its parts; undefined when it is not such an id. */
export function parseWebhookMessageId(messageId: string): { jobId: string; event: WebhookEventName } | undefined {
  const [, jobId, event] = /^msg_([0-9a-f-]{36})_([a-z]+)$/.exec(messageId) ?? []
  const name = webhookEventNames.find((known) => known === event)
  return jobId === undefined || name === undefined ? undefined : { jobId, event: name }
}

/** The longest body in bytes; a job with long prompts is shortened to fit. */
export const maxWebhookBodyBytes = 20_000

export const webhookBodySchema = z.object({
  type: z.enum(['job.queued', 'job.started', 'job.progress', 'job.completed']),
  timestamp: z.string(),
  data: jobSchema,
})
export type WebhookBody = z.infer<typeof webhookBodySchema>

/** A complete message, for when the record that it is about no longer exists. */
export interface KeptWebhookMessage {
  /** `webhook-id`. */
  id: string
  body: string
  url: string
  /** The owner of the job. */
  owner: string
  /** The request id of the HTTP request that made the job, for logs. */
  requestId?: string
}

/** What the delivery job in the webhooks queue carries. The URL and the message's content come from the record as long as it exists. */
export interface WebhookJobData {
  jobId: string
  event: WebhookEventName
  /** Whether a client asked for redelivery; the message is then sent at once. */
  redelivered?: boolean
  /** Absent while the record exists. */
  kept?: KeptWebhookMessage
}

/** One request to a receiver. */
export const webhookAttemptSchema = z
  .object({
    message_id: z.string().describe('`webhook-id` of the message: the same over all its attempts.'),
    event: z.enum(webhookEventNames),
    at: z.string().describe('When the request began.'),
    duration_ms: z.int(),
    status: z.int().nullable().describe('HTTP status of the answer; null when there was none.'),
    ok: z.boolean().describe('Whether the message counts as delivered: a 2xx answer in time.'),
    error: z.string().nullable().describe('Why it does not count as delivered.'),
  })
  .meta({ id: 'WebhookAttempt' })
export type WebhookAttempt = z.infer<typeof webhookAttemptSchema>

/** How many attempts are remembered for a job; the oldest are dropped first. */
export const maxWebhookAttempts = 100
