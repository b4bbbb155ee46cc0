/** What OpenAI's image endpoint accepts, and how it becomes a job. Pure. */
import { z } from '@hono/zod-openapi'
import { countStepsRun, defaultStrength, generationFields, maxImagesPerPrompt } from '@easel/contract'
import type { CreateJobRequest } from '@easel/contract'
import { describeValue } from '../../problems/field-errors.ts'
import { refuseFields } from '../../problems/refuse-fields.ts'
import { dropNulls, ownFields } from '../own-fields.ts'

const ignored = { description: 'Accepted, but without effect.' }
const ignoredFields = {
  quality: z.enum(['auto', 'low', 'medium', 'high', 'xhigh', 'max', 'standard', 'hd']).nullish().meta(ignored),
  style: z.enum(['vivid', 'natural']).nullish().meta(ignored),
  moderation: z.enum(['auto', 'low']).nullish().meta(ignored),
  user: z.string().nullish().meta(ignored),
  safety_identifier: z.string().nullish().meta(ignored),
}

export const imagesRequestSchema = z
  .strictObject({
    prompt: generationFields.prompt,
    model: z.string().min(1).max(200).nullish().meta({ description: 'A model of GET /v1/models. Default: the server’s default model.' }),
    n: z.int().min(1).max(maxImagesPerPrompt).nullish().meta({ description: 'Pictures, 1 to 10. Default 1.' }),
    size: z
      .string()
      .regex(/^(?:auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$/, '"auto" or WIDTHxHEIGHT')
      .nullish()
      .meta({ description: '`WIDTHxHEIGHT` in pixels within the model’s limits, or `auto`: the model’s default.', examples: ['128x128'] }),
    response_format: z
      .enum(['url', 'b64_json'])
      .nullish()
      .meta({ description: 'The form of each picture. Default: both. A stream has `b64_json` only.' }),
    output_format: z.enum(['png', 'jpeg', 'webp']).nullish().meta({ description: 'File format. Default png.' }),
    output_compression: z
      .int()
      .min(0)
      .max(100)
      .nullish()
      .meta({ description: 'Quality of jpeg and webp, 0 to 100; 0 is taken as 1. For png only 100. Default 100.' }),
    stream: z.boolean().nullish().meta({ description: 'Answer with server-sent events. Default false.' }),
    partial_images: z
      .int()
      .min(0)
      .max(3)
      .nullish()
      .meta({ description: 'With `stream`: previews of each picture, 0 to 3. They are small JPEG files. Default 0.' }),
    background: z.enum(['auto', 'opaque']).nullish().meta({ description: 'Pictures are opaque; `transparent` is refused.' }),
    ...ignoredFields,
    ...ownFields(['prompt', 'width', 'height', 'num_images_per_prompt', 'output_format', 'output_quality']),
  })
  .meta({ id: 'OpenAiImagesRequest' })
export type ImagesRequest = z.infer<typeof imagesRequestSchema>

const word = { description: 'Without effect.' }

/** The text of a form for POST /v1/images/edits. */
export const editRequestSchema = imagesRequestSchema
  .omit({ image: true, mask: true })
  .extend({ input_fidelity: z.enum(['high', 'low']).nullish().meta(word) })
  .meta({ id: 'OpenAiEditRequest' })

/** The whole form of POST /v1/images/edits. */
export const editFormSchema = editRequestSchema.extend({
  image: z.file().meta({ description: 'The picture to begin with.' }),
  mask: z.file().optional().meta({ description: 'A picture that is transparent where to paint. Default: the transparency of `image`.' }),
})

/** `defaultSteps`: the model's, for placing previews. `isEdit`: whether there is an input picture. */
export function toRequest(
  body: ImagesRequest,
  { defaultSteps, isEdit = false }: { defaultSteps: number; isEdit?: boolean },
): { request: CreateJobRequest; ignored: string[] } {
  const { n, size, response_format: _as, background: _kind, stream = false, partial_images: previews = 0, ...rest } = dropNulls(body)
  const { output_format: format = 'png', output_compression: compression = 100, ...asked } = rest
  const { quality: _quality, style: _style, moderation: _moderation, user: _user, safety_identifier: _safety, ...same } = asked
  if (format === 'png' && compression !== 100) {
    throw refuseFields([{ field: 'output_compression', expected: '100, as png loses nothing', received: describeValue(compression) }])
  }
  const request: CreateJobRequest = { ...same, output_format: format, num_images_per_prompt: n }
  if (size !== undefined && size !== 'auto') {
    const [width, height] = size.split('x').map(Number)
    Object.assign(request, { width, height })
  }
  if (format !== 'png') request.output_quality = Math.max(1, compression)
  if (stream && previews > 0) {
    // Spread over the run, with the last one before its end.
    const { strength = defaultStrength } = same
    const image = isEdit || same.image !== undefined ? true : undefined
    const steps = countStepsRun({ num_inference_steps: same.sigmas?.length ?? same.num_inference_steps ?? defaultSteps, image, strength })
    request.preview_every = Math.max(1, Math.floor(steps / (previews + 1)))
  }
  return { request, ignored: Object.keys(asked).filter((field) => Object.hasOwn(ignoredFields, field)) }
}

const names: Record<string, string> = {
  num_images_per_prompt: 'n',
  width: 'size',
  height: 'size',
  output_quality: 'output_compression',
}

/** This dialect's name for a field of a job request. */
export function toParameter(field: string): string {
  return names[field] ?? field
}
