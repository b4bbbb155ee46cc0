/**
 * Decides everything about a picture before it is queued: what a request may ask of a model, all defaults, and the seed. A job that runs twice
 * makes the same bytes because nothing is left to decide. Pure; knows nothing about Redis or HTTP.
 */
import { randomInt } from 'node:crypto'
import { defaultStrength, generationFields, maxSeed, promptFields } from '@easel/contract'
import type { CreateJobRequest, FieldError, InputPicture, JobInput, ModelRecord } from '@easel/contract'
import { sizeForPicture } from '@easel/input-pictures'
import type { PictureField, PictureSources } from '../inputs/picture-source.ts'
import { describeValue } from '../problems/field-errors.ts'

/** What a job should be, in whichever dialect it was requested. */
export type SubmitRequest = Omit<CreateJobRequest, PictureField> & PictureSources

/** The pictures of a request, stored or about to be. */
export type InputPictures = { [Field in PictureField]?: InputPicture }

/** The operator's limits. */
export interface RequestLimits {
  /** The most characters in each prompt. */
  maxPromptLength: number
  maxSteps: number
  maxImagesPerJob: number
}

/** What is wrong with a request for any model, beyond what the schema of a single field can say. */
export function checkRequest(request: SubmitRequest, { maxPromptLength, maxSteps, maxImagesPerJob }: RequestLimits): FieldError[] {
  const errors: FieldError[] = []
  let sum = 0
  const counts = [
    ['num_inference_steps', request.num_inference_steps, maxSteps],
    ['sigmas', request.sigmas?.length, maxSteps],
    ['num_images_per_prompt', request.num_images_per_prompt, maxImagesPerJob],
  ] as const
  for (const [field, count, most] of counts) {
    if (count !== undefined && count > most)
      errors.push({ field, expected: `at most ${most}, the limit of this server`, received: String(count) })
  }
  for (const field of promptFields) {
    const text = request[field]
    if (text === undefined) continue
    // The tokenizers are native code that accepts only well-formed text.
    if (!text.isWellFormed()) errors.push({ field, expected: 'well-formed Unicode', received: describeValue(text) })
    const { length } = Array.from(text)
    if (length > maxPromptLength)
      errors.push({ field, expected: `at most ${maxPromptLength} characters`, received: `${length} characters` })
    sum += length
  }
  if (errors.length === 0 && sum > 2 * maxPromptLength) {
    const expected = `at most ${2 * maxPromptLength} characters in all prompts together`
    errors.push({ field: 'prompt', expected, received: `${sum} characters` })
  }
  const { sigmas, num_inference_steps: steps, seed, output_quality: quality } = request
  if (sigmas !== undefined && steps !== undefined && steps !== sigmas.length) {
    errors.push({ field: 'num_inference_steps', expected: `${sigmas.length}, the length of sigmas, or nothing`, received: String(steps) })
  }
  const lastSeed = maxSeed - ((request.num_images_per_prompt ?? 1) - 1)
  if (seed !== undefined && seed > lastSeed) {
    errors.push({ field: 'seed', expected: `at most ${lastSeed}, so that every image has a seed`, received: String(seed) })
  }
  if (request.skip_guidance_layers === undefined)
    for (const field of ['skip_layer_guidance_scale', 'skip_layer_guidance_start', 'skip_layer_guidance_stop'] as const)
      if (request[field] !== undefined)
        errors.push({ field, expected: 'nothing without skip_guidance_layers', received: String(request[field]) })
  if (request.image === undefined)
    for (const field of ['strength', 'fit'] as const)
      if (request[field] !== undefined) errors.push({ field, expected: 'nothing without image', received: String(request[field]) })
  if (quality !== undefined && (request.output_format ?? 'png') === 'png') {
    errors.push({ field: 'output_quality', expected: 'nothing, as png has no quality', received: String(quality) })
  }
  return errors
}

/** The complete input of a job, or what the model refuses. `pictures`: what the request's `image` and `mask` turned out to be. */
export function resolveInput(
  request: SubmitRequest,
  model: ModelRecord,
  { maxSteps }: Pick<RequestLimits, 'maxSteps'>,
  pictures: InputPictures = {},
): { input: JobInput } | { errors: FieldError[] } {
  const { defaults, limits } = model
  const { width, height } = resolveSize(request, model, pictures.image)
  const errors: FieldError[] = []
  for (const [field, side] of [
    ['width', width],
    ['height', height],
  ] as const) {
    if (side % limits.size_multiple !== 0 || side > limits.max_side) {
      const expected = `a multiple of ${limits.size_multiple}, at most ${limits.max_side}`
      errors.push({ field, expected, received: String(side) })
    }
  }
  if (errors.length === 0 && width * height > limits.max_pixels) {
    const field = request.width === undefined ? 'height' : 'width'
    errors.push({ field, expected: `width × height of at most ${limits.max_pixels} pixels`, received: `${width} × ${height}` })
  }
  const { clip_skip: clipSkip, max_sequence_length: length = defaults.max_sequence_length } = request
  if (clipSkip !== undefined && clipSkip > limits.max_clip_skip) {
    errors.push({ field: 'clip_skip', expected: `0 to ${limits.max_clip_skip}`, received: String(clipSkip) })
  }
  const { layers = 0 } = limits
  const wrongLayer = request.skip_guidance_layers?.find((layer) => layer >= layers)
  if (wrongLayer !== undefined) {
    const expected = layers === 0 ? 'nothing, as this model’s graph cannot skip layers' : `layers from 0 to ${layers - 1}`
    errors.push({ field: 'skip_guidance_layers', expected, received: String(wrongLayer) })
  }
  if (length > limits.max_sequence_length) {
    errors.push({ field: 'max_sequence_length', expected: `at most ${limits.max_sequence_length}`, received: String(length) })
  }
  if (errors.length > 0) return { errors }

  const given = Object.fromEntries(
    Object.keys(generationFields).flatMap((field) => {
      const value = { ...request, ...pictures }[field as keyof typeof generationFields]
      return value === undefined ? [] : [[field, value]]
    }),
  )
  const format = request.output_format ?? 'png'
  const input: JobInput = {
    ...given,
    model: model.id,
    prompt: request.prompt,
    negative_prompt: request.negative_prompt ?? '',
    width,
    height,
    num_inference_steps: request.sigmas?.length ?? request.num_inference_steps ?? Math.min(defaults.num_inference_steps, maxSteps),
    guidance_scale: request.guidance_scale ?? defaults.guidance_scale,
    num_images_per_prompt: request.num_images_per_prompt ?? 1,
    seed: request.seed ?? randomInt(2 ** 32),
    max_sequence_length: length,
    output_format: format,
  }
  if (input.skip_guidance_layers !== undefined) {
    input.skip_layer_guidance_scale ??= 2.8
    input.skip_layer_guidance_start ??= 0.01
    input.skip_layer_guidance_stop ??= 0.2
  }
  if (input.loras !== undefined) input.loras = input.loras.map(({ id, scale = 1 }) => ({ id, scale }))
  if (pictures.image !== undefined) {
    input.strength ??= defaultStrength
    input.fit ??= 'cover'
  }
  if (format !== 'png') input.output_quality = request.output_quality ?? 90
  return { input }
}

/** The width and height of the pictures: as requested, else from the input picture, else the model's default. */
function resolveSize(
  { width, height }: SubmitRequest,
  { defaults, limits }: ModelRecord,
  picture: InputPicture | undefined,
): { width: number; height: number } {
  if (picture === undefined) return { width: width ?? defaults.width, height: height ?? defaults.height }
  const { size_multiple: multiple, max_side: maxSide } = limits
  const maxArea = Math.min(defaults.width * defaults.height, limits.max_pixels)
  return sizeForPicture(picture, { width, height }, { multiple, maxSide, maxArea })
}
