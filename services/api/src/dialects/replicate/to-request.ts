/** What Replicate's clients send to make a prediction, and what a job makes of it. Pure. */
import { z } from '@hono/zod-openapi'
import { deliveryFields, generationFields } from '@easel/contract'
import type { CreateJobRequest, WebhookEventName } from '@easel/contract'
import { describeValue } from '../../middleware/field-errors.ts'
import { refuseFields } from '../../middleware/problem.ts'
import { toModelIdOf } from '../model-name.ts'

/**
 * The input of every model here: the fields of a job that say what picture to make. Others are ignored, as they have always been there
 * (replicate/cog#2943).
 */
export const predictionInputSchema = z.object(generationFields).meta({ id: 'PredictionInput' })

const webhookEvents = {
  start: 'started',
  logs: 'progress',
  // Pictures come with the end and not before.
  output: 'completed',
  completed: 'completed',
} as const satisfies Record<string, WebhookEventName>
type WebhookEvent = keyof typeof webhookEvents
const webhookEventNames = Object.keys(webhookEvents) as [WebhookEvent, ...WebhookEvent[]]

export const predictionRequestSchema = z
  .object({
    input: predictionInputSchema,
    webhook: deliveryFields.webhook,
    webhook_events_filter: z
      .array(z.enum(webhookEventNames))
      .min(1)
      .max(webhookEventNames.length)
      .optional()
      .meta({ description: 'Events that the webhook is told. Default: all.' }),
  })
  .meta({ id: 'ModelPredictionRequest' })
export const versionedRequestSchema = predictionRequestSchema
  .extend({
    version: z
      .string()
      .min(1)
      .max(400)
      .meta({ description: 'The model: `NAME`, `owner/name` or `owner/name:NAME`.', examples: ['tiny-scenes'] }),
  })
  .meta({ id: 'PredictionRequest' })

/** `cancelAfter`: the header of that name. */
export function toRequest(
  { input, webhook, webhook_events_filter: filter = webhookEventNames }: z.infer<typeof predictionRequestSchema>,
  { model, cancelAfter }: { model: string; cancelAfter: string | undefined },
): CreateJobRequest {
  const request: CreateJobRequest = { ...input, model }
  if (webhook !== undefined) {
    request.webhook = webhook
    request.webhook_events_filter = [...new Set(filter.map((event) => webhookEvents[event]))]
  }
  if (cancelAfter !== undefined) {
    const seconds = parseDuration(cancelAfter)
    if (seconds === undefined) {
      throw refuseFields([
        { field: 'Cancel-After', expected: 'a duration such as 90, 30s, 5m or 1h30m', received: describeValue(cancelAfter) },
      ])
    }
    Object.assign(request, { expires_in: seconds, timeout: seconds })
  }
  return request
}

/** The model that `version` names. A version here is its model: there is one of each. */
export function toModelOfVersion(version: string): string {
  const [name = ''] = version.split(':')
  return toModelIdOf(name)
}

/** What a prediction calls a field of a job request. */
export function toInputField(field: string): string {
  if (field === 'expires_in' || field === 'timeout') return 'Cancel-After'
  return field === '' || field === 'model' || field.startsWith('webhook') || field === 'Idempotency-Key' ? field : `input.${field}`
}

/** In seconds; undefined when it is no duration. */
function parseDuration(text: string): number | undefined {
  const match = /^(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s?)?$/.exec(text.trim())
  if (match === null || match[0] === '') return undefined
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => (part === undefined ? 0 : Number(part)))
  return hours * 3600 + minutes * 60 + seconds
}
