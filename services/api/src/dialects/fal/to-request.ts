/** What fal's text-to-image endpoints take, and what a job makes of it. Fields that are not known are ignored, as there. Pure. */
import { z } from '@hono/zod-openapi'
import { generationFields, maxImagesPerPrompt } from '@easel/contract'
import type { CreateJobRequest } from '@easel/contract'
import { describeValue } from '../../middleware/field-errors.ts'
import { refuseFields } from '../../middleware/problem.ts'
import { dropNulls } from '../submit-through.ts'

const namedSizes = {
  square_hd: [1024, 1024],
  square: [512, 512],
  portrait_4_3: [768, 1024],
  portrait_16_9: [576, 1024],
  landscape_4_3: [1024, 768],
  landscape_16_9: [1024, 576],
} as const
type NamedSize = keyof typeof namedSizes

const side = z.int().min(1)

export const falInputSchema = z
  .object({
    prompt: generationFields.prompt,
    negative_prompt: generationFields.negative_prompt.nullable(),
    image_size: z
      .union([z.enum(Object.keys(namedSizes) as [NamedSize, ...NamedSize[]]), z.object({ width: side, height: side })], {
        error: `one of ${Object.keys(namedSizes).join(', ')}, or {"width", "height"}`,
      })
      .nullish()
      .meta({ description: 'A name, or width and height in pixels within the model’s limits. Default: the model’s.' }),
    num_images: z.int().min(1).max(maxImagesPerPrompt).nullish().meta({ description: 'Pictures, 1 to 10. Default 1.' }),
    num_inference_steps: generationFields.num_inference_steps.nullable(),
    guidance_scale: generationFields.guidance_scale.nullable(),
    seed: generationFields.seed.nullable(),
    output_format: generationFields.output_format.nullable(),
    sync_mode: z.literal(false).nullish().meta({ description: 'Pictures come as URLs: `true` is refused.' }),
  })
  .meta({ id: 'FalInput' })

export interface FalOptions {
  model: string
  /** Query `fal_webhook`. */
  webhook: string | undefined
  /** Header `x-fal-queue-priority`. */
  priority: string | undefined
  /** Header `x-fal-request-timeout`: seconds in which the request must start. */
  startTimeout: string | undefined
}

export function toRequest(body: z.infer<typeof falInputSchema>, options: FalOptions): CreateJobRequest {
  const { image_size: size, num_images: images, sync_mode: _sync, ...same } = dropNulls(body)
  const request: CreateJobRequest = { ...same, model: options.model }
  if (images !== undefined) request.num_images_per_prompt = images
  if (size !== undefined) {
    const [width, height] = typeof size === 'string' ? namedSizes[size] : [size.width, size.height]
    Object.assign(request, { width, height })
  }
  if (options.webhook !== undefined) request.webhook = options.webhook
  if (options.priority !== undefined) request.priority = parsePriority(options.priority)
  if (options.startTimeout !== undefined) request.expires_in = parseTimeout(options.startTimeout)
  return request
}

const names: Record<string, string> = {
  num_images_per_prompt: 'num_images',
  width: 'image_size',
  height: 'image_size',
  webhook: 'fal_webhook',
  expires_in: 'x-fal-request-timeout',
}

/** What this dialect calls a field of a job request. */
export function toFalField(field: string): string {
  return names[field] ?? field
}

function parsePriority(text: string): number {
  if (text === 'normal') return 0
  if (text === 'low') return -5
  throw refuseFields([{ field: 'x-fal-queue-priority', expected: 'normal or low', received: describeValue(text) }])
}

function parseTimeout(text: string): number {
  if (/^[0-9]{1,9}(?:\.[0-9]{1,9})?$/.test(text)) return Math.ceil(Number(text))
  throw refuseFields([{ field: 'x-fal-request-timeout', expected: 'seconds', received: describeValue(text) }])
}
