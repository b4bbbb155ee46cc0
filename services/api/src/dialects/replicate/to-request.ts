/** What Replicate's clients send to make a prediction, and how it becomes a job. Pure. */
import { z } from '@hono/zod-openapi'
import { deliveryFields, generationFields } from '@easel/contract'
import type { CreateJobRequest, FieldError, ModelRecord, WebhookEventName } from '@easel/contract'
import { describeValue } from '../../problems/field-errors.ts'
import { refuseFields } from '../../problems/refuse-fields.ts'
import { toModelIdOf } from '../model-name.ts'
import { ratioPattern, sizeOfRatio } from '../size-of-ratio.ts'

/** The names that Replicate's models use for our fields. */
const words = {
  steps: 'num_inference_steps',
  cfg: 'guidance_scale',
  guidance: 'guidance_scale',
  num_outputs: 'num_images_per_prompt',
  prompt_strength: 'strength',
} as const satisfies Record<string, keyof typeof generationFields>

/** Input pictures and the like, without which the result would be a different picture. */
const refused = ['image_prompt', 'control_image', 'input_image', 'lora_weights', 'extra_lora', 'hf_lora']

/**
 * The input of every model here: the fields of a job that say which picture to make, and their names in Replicate's usual models. Other fields
 * have no effect, as on Replicate (replicate/cog#2943).
 */
export const predictionInputSchema = z
  .looseObject({
    ...generationFields,
    steps: generationFields.num_inference_steps.meta({ description: 'The same as `num_inference_steps`.' }),
    cfg: generationFields.guidance_scale.meta({ description: 'The same as `guidance_scale`.' }),
    guidance: generationFields.guidance_scale.meta({ description: 'The same as `guidance_scale`.' }),
    num_outputs: generationFields.num_images_per_prompt.meta({ description: 'The same as `num_images_per_prompt`.' }),
    prompt_strength: generationFields.strength.meta({ description: 'The same as `strength`; without `image` it has no effect.' }),
    aspect_ratio: z
      .union([z.literal('custom'), z.string().regex(ratioPattern)], { error: 'a ratio such as 16:9, or custom' })
      .optional()
      .meta({
        description:
          'Such as `16:9`: a size of that ratio with about as many pixels as the model’s default size. `custom`: `width` and `height` are used.',
      }),
    output_format: z.enum(['png', 'jpg', 'jpeg', 'webp']).optional().meta({ description: 'File format of the pictures. Default png.' }),
    output_quality: z
      .int()
      .min(0)
      .max(100)
      .optional()
      .meta({ description: 'Quality of jpeg and webp, 0 to 100; 0 counts as 1; ignored for png. Default 90.' }),
  })
  .meta({ id: 'PredictionInput' })

const webhookEvents = {
  start: 'started',
  logs: 'progress',
  // Pictures come only with the end.
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
      .meta({ description: 'Events that the webhook receives. Default: all.' }),
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

export interface PredictionOptions {
  model: string
  /** Header `Cancel-After`. */
  cancelAfter: string | undefined
  /** The model's record, for `aspect_ratio`; undefined when there is none, in which case the request will be refused. */
  record: ModelRecord | undefined
}

export function toRequest(
  { input, webhook, webhook_events_filter: filter = webhookEventNames }: z.infer<typeof predictionRequestSchema>,
  { model, cancelAfter, record }: PredictionOptions,
): { request: CreateJobRequest; ignored: string[] } {
  const { fields, ignored } = toFields(input, record)
  const request: CreateJobRequest = { ...fields, model }
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
  return { request, ignored }
}

/** The input under our own names, and the fields that have no effect. Throws `invalid_request`. */
function toFields(input: z.infer<typeof predictionInputSchema>, record: ModelRecord | undefined) {
  const { aspect_ratio: ratio, output_format: format = 'png', output_quality: quality, ...rest } = input
  const errors: FieldError[] = []
  const refuse = (field: string, expected: string): void => {
    errors.push({ field: `input.${field}`, expected, received: describeValue(input[field]) })
  }
  const fields: Partial<CreateJobRequest> = { output_format: format === 'jpg' ? 'jpeg' : format }
  const ignored: string[] = []
  for (const [field, value] of Object.entries(rest)) {
    if (value === null || value === undefined) continue
    const own = Object.hasOwn(words, field) ? words[field as keyof typeof words] : field
    if (own !== field && rest[own] !== undefined && rest[own] !== value) refuse(field, `the same as ${own}, or nothing`)
    // Clients also send the default.
    if (field === 'prompt_strength' && input.image === undefined) ignored.push(field)
    else if (Object.hasOwn(generationFields, own)) Object.assign(fields, { [own]: value })
    else if (refused.includes(field)) refuse(field, 'nothing: this input is not supported here')
    else ignored.push(field)
  }
  if (ratio !== undefined && ratio !== 'custom') {
    if (fields.width !== undefined || fields.height !== undefined)
      refuse('aspect_ratio', 'custom, or nothing, together with width and height')
    if (record !== undefined) Object.assign(fields, sizeOfRatio(ratio, record))
  }
  if (quality !== undefined && format === 'png') ignored.push('output_quality')
  else if (quality !== undefined) fields.output_quality = Math.max(1, quality)
  if (errors.length > 0) throw refuseFields(errors)
  return { fields: { ...fields, prompt: input.prompt }, ignored }
}

/** The model that `version` names. Here a version is the model itself, which has only one. */
export function toModelOfVersion(version: string): string {
  const [name = ''] = version.split(':')
  return toModelIdOf(name)
}

/** The name that a prediction has for a field of a job request. */
export function toInputField(field: string): string {
  if (field === 'expires_in' || field === 'timeout') return 'Cancel-After'
  return field === '' || field === 'model' || field.startsWith('webhook') || field === 'Idempotency-Key' ? field : `input.${field}`
}

/** In seconds; undefined when it is not a duration. */
function parseDuration(text: string): number | undefined {
  const match = /^(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s?)?$/.exec(text.trim())
  if (match === null || match[0] === '') return undefined
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => (part === undefined ? 0 : Number(part)))
  return hours * 3600 + minutes * 60 + seconds
}
