/** Webhook messages (Standard Webhooks): type names, message ids and the body's shape. */
import { z } from 'zod'
import { jobSchema } from './job.ts'
import type { webhookEventNames } from './job-request.ts'

export type WebhookEventName = (typeof webhookEventNames)[number]
export type WebhookType = `job.${WebhookEventName}`

/** `webhook-id`: one per message, the same over all attempts, without dots in the part that is ours to choose. */
export function webhookMessageId(jobId: string, event: WebhookEventName): string {
  return `msg_${jobId}_${event}`
}

export const webhookBodySchema = z.object({
  type: z.enum(['job.queued', 'job.started', 'job.progress', 'job.completed']),
  timestamp: z.string(),
  data: jobSchema,
})
export type WebhookBody = z.infer<typeof webhookBodySchema>

/** What the delivery job in the webhooks queue carries. The record has the URL. */
export interface WebhookJobData {
  jobId: string
  event: WebhookEventName
}
