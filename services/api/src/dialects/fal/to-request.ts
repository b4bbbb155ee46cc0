/** What fal's text-to-image endpoints accept, and how it becomes a job. Unknown fields are ignored, as fal does. Pure. */
import { z } from '@hono/zod-openapi'
import { generationFields, maxImagesPerPrompt } from '@easel/contract'
import type { CreateJobRequest, FieldError, ModelRecord } from '@easel/contract'
import { describeValue } from '../../problems/field-errors.ts'
import { refuseFields } from '../../problems/refuse-fields.ts'
import { dropNulls, ownFields } from '../own-fields.ts'
import { ratioPattern, sizeOfRatio } from '../size-of-ratio.ts'

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

/** Input pictures and the like, without which the result would be a different picture. */
const refused = ['image', 'mask', 'image_urls', 'control_image_url', 'controlnets', 'ip_adapters', 'embeddings']

export const falInputSchema = z
  .looseObject({
    prompt: generationFields.prompt,
    image_size: z
      .union([z.enum(Object.keys(namedSizes) as [NamedSize, ...NamedSize[]]), z.object({ width: side, height: side })], {
        error: `one of ${Object.keys(namedSizes).join(', ')}, or {"width", "height"}`,
      })
      .nullish()
      .meta({ description: 'A name, or width and height in pixels within the model’s limits. Default: the model’s.' }),
    aspect_ratio: z.string().regex(ratioPattern, 'a ratio such as 16:9').nullish().meta({
      description: 'Instead of `image_size`: a size of that ratio with about as many pixels as the model’s default size.',
    }),
    num_images: z.int().min(1).max(maxImagesPerPrompt).nullish().meta({ description: 'Pictures, 1 to 10. Default 1.' }),
    loras: z
      .array(z.looseObject({ path: z.string().min(1).max(200), scale: z.number().min(-4).max(4).nullish() }))
      .max(4)
      .nullish()
      .meta({ description: '`path` is the id of a LoRA of the model, `scale` -4 to 4. Default: none.' }),
    sync_mode: z.literal(false).nullish().meta({ description: 'Pictures come as URLs: `true` is refused.' }),
    image_url: generationFields.image.nullable().meta({
      description: 'A picture to begin with: an https:// or data: URL, or one of this server’s own.',
    }),
    mask_url: generationFields.mask.nullable().meta({ description: 'Which part of `image_url` is repainted: the white one.' }),
    mask_image_url: generationFields.mask.nullable().meta({ description: 'The same as `mask_url`.' }),
    ...ownFields(['prompt', 'width', 'height', 'num_images_per_prompt', 'image', 'mask', 'loras']),
  })
  .meta({ id: 'FalInput' })

export interface FalOptions {
  model: string
  /** The model's record, for `aspect_ratio`; undefined when there is none, in which case the request will be refused. */
  record: ModelRecord | undefined
  /** Query `fal_webhook`. */
  webhook: string | undefined
  /** Header `x-fal-queue-priority`. */
  priority: string | undefined
  /** Header `x-fal-request-timeout`: the seconds within which the request must start. */
  startTimeout: string | undefined
}

export function toRequest(body: z.infer<typeof falInputSchema>, options: FalOptions): { request: CreateJobRequest; ignored: string[] } {
  const { image_size: size, aspect_ratio: ratio, num_images: images, loras = [], sync_mode: _sync, ...others } = dropNulls(body)
  const { image_url: image, mask_url: mask, mask_image_url: sameMask, ...rest } = others
  const errors: FieldError[] = refused
    .filter((field) => rest[field] !== undefined && !isEmptyList(rest[field]))
    .map((field) => ({ field, expected: 'nothing: this input is not supported here', received: describeValue(rest[field]) }))
  if (ratio !== undefined && size !== undefined) {
    errors.push({ field: 'aspect_ratio', expected: 'nothing together with image_size', received: describeValue(ratio) })
  }
  if (errors.length > 0) throw refuseFields(errors)

  const [own, unknown] = [Object.entries(rest).filter(isOwn), Object.entries(rest).filter((entry) => !isOwn(entry))]
  const request: CreateJobRequest = { ...Object.fromEntries(own), prompt: body.prompt, model: options.model, num_images_per_prompt: images }
  if (image !== undefined) request.image = image
  if ((mask ?? sameMask) !== undefined) request.mask = mask ?? sameMask
  if (loras.length > 0) request.loras = loras.map(({ path, scale }) => ({ id: path, scale: scale ?? 1 }))
  if (size !== undefined) {
    const [width, height] = typeof size === 'string' ? namedSizes[size] : [size.width, size.height]
    Object.assign(request, { width, height })
  }
  if (ratio !== undefined && options.record !== undefined) Object.assign(request, sizeOfRatio(ratio, options.record))
  if (options.webhook !== undefined) request.webhook = options.webhook
  if (options.priority !== undefined) request.priority = parsePriority(options.priority)
  if (options.startTimeout !== undefined) request.expires_in = parseTimeout(options.startTimeout)
  return { request, ignored: unknown.map(([field]) => field) }
}

function isOwn([field]: [string, unknown]): boolean {
  return Object.hasOwn(falInputSchema.shape, field)
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

const names: Record<string, string> = {
  num_images_per_prompt: 'num_images',
  image: 'image_url',
  mask: 'mask_url',
  width: 'image_size',
  height: 'image_size',
  webhook: 'fal_webhook',
  expires_in: 'x-fal-request-timeout',
}

/** This dialect's name for a field of a job request. */
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
