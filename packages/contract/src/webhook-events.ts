/** Webhook messages (Standard Webhooks): type names, message ids and the body's shape. */
import { z } from 'zod'
import { jobSchema } from './job.ts'
import { webhookEventNames } from './job-request.ts'

export type WebhookEventName = (typeof webhookEventNames)[number]
export type WebhookType = `job.${WebhookEventName}`

/**
 * `webhook-id`: one per message, the same over all attempts, without dots. A job has many progress messages, and receivers drop an id they
 * have seen: theirs end with the step.
 */
export function webhookMessageId(jobId: string, event: WebhookEventName, step?: number): string {
  return `msg_${jobId}_${event}${step === undefined ? '' : `_${step}`}`
}

/** Longest body in bytes; a job with long prompts is shortened to fit. */
export const maxWebhookBodyBytes = 20_000

export const webhookBodySchema = z.object({
  type: z.enum(['job.queued', 'job.started', 'job.progress', 'job.completed']),
  timestamp: z.string(),
  data: jobSchema,
})
export type WebhookBody = z.infer<typeof webhookBodySchema>

/** A message by itself, for when the record that it tells of is gone. */
export interface KeptWebhookMessage {
  /** `webhook-id`. */
  id: string
  body: string
  url: string
  /** Owner of the job. */
  owner: string
  /** Request id of the HTTP request that made the job, for logs. */
  requestId?: string
}

/** What the delivery job in the webhooks queue carries. The record has the URL, and what the message says, as long as there is one. */
export interface WebhookJobData {
  jobId: string
  event: WebhookEventName
  /** Asked for by a client: sent at once. */
  redelivered?: boolean
  /** Absent: the record is still there. */
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

/** How many attempts of a job are remembered; older ones are forgotten first. */
export const maxWebhookAttempts = 100
