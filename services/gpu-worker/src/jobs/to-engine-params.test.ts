import { expect, test } from 'vitest'
import type { JobInput } from '@easel/contract'
import { toEngineParams } from './to-engine-params.ts'

const input: JobInput = {
  model: 'tiny-scenes',
  prompt: 'a boat',
  negative_prompt: '',
  width: 64,
  height: 128,
  num_inference_steps: 4,
  guidance_scale: 4,
  num_images_per_prompt: 2,
  seed: 42,
  max_sequence_length: 77,
  output_format: 'png',
}
const params = {
  prompt: 'a boat',
  negativePrompt: '',
  width: 64,
  height: 128,
  numInferenceSteps: 4,
  guidanceScale: 4,
  numImagesPerPrompt: 2,
  seed: 42,
  maxSequenceLength: 77,
}

test('the engine gets the fields that determine a picture in the spelling of the library, and none that the job lacks', () => {
  expect(toEngineParams(input)).toStrictEqual(params)
  expect(toEngineParams({ ...input, clip_skip: undefined })).toStrictEqual(params)
})

test('the engine gets optional fields, too', () => {
  const optional: Partial<JobInput> = {
    prompt_2: 'two',
    negative_prompt_3: 'three',
    guidance_interval: [0.1, 0.8],
    skip_guidance_layers: [7],
  }
  const expected = { prompt2: 'two', negativePrompt3: 'three', guidanceInterval: [0.1, 0.8], skipGuidanceLayers: [7] }
  expect(toEngineParams({ ...input, ...optional })).toStrictEqual({ ...params, ...expected })
})

test('pictures are passed as pixels, and how the result is encoded is not passed to the engine', () => {
  const picture = { sha256: 'ab', bytes: 1, width: 64, height: 128, content_type: 'image/png' } as const
  const start = { image: { data: new Uint8Array(), width: 64, height: 128 }, strength: 0.6 }
  const written: Partial<JobInput> = { image: picture, strength: 0.6, fit: 'cover', output_format: 'webp', output_quality: 80 }
  expect(toEngineParams({ ...input, ...written }, start)).toStrictEqual({ ...params, start })
})

test('a field of a later Easel, which this one does not know, is left out', () => {
  expect(toEngineParams({ ...input, later: 1 } as JobInput)).toStrictEqual(params)
})
