import { describe, expect, test } from 'vitest'
import type { CreateJobRequest, JobInput, ModelRecord } from '@easel/contract'
import { tinyScenes } from '../../test/start-api.ts'
import { checkRequest, resolveInput } from './resolve-input.ts'

const limits = { maxPromptLength: 4000, maxSteps: 200, maxImagesPerJob: 10 }

const request = (over: Partial<CreateJobRequest> = {}): CreateJobRequest => ({ prompt: 'a', ...over })

function inputOf(over: Partial<CreateJobRequest> = {}, model: ModelRecord = tinyScenes): JobInput {
  const resolved = resolveInput(request(over), model, limits)
  if ('errors' in resolved) throw new Error(JSON.stringify(resolved.errors))
  return resolved.input
}

function fieldsOf(over: Partial<CreateJobRequest>, model: ModelRecord = tinyScenes): string[] {
  const resolved = resolveInput(request(over), model, limits)
  return 'errors' in resolved ? resolved.errors.map((error) => error.field) : []
}

test('all prompts of a request together may have at most twice as many characters as one', () => {
  const six = {
    prompt: 'a'.repeat(4),
    prompt_2: 'b'.repeat(4),
    prompt_3: 'c',
    negative_prompt: 'd',
    negative_prompt_2: '',
    negative_prompt_3: '',
  }
  expect(checkRequest(six, { ...limits, maxPromptLength: 5 })).toEqual([])
  expect(checkRequest({ ...six, negative_prompt_3: 'ä' }, { ...limits, maxPromptLength: 5 })).toEqual([
    { field: 'prompt', expected: 'at most 10 characters in all prompts together', received: '11 characters' },
  ])
})

describe('the input of a job', () => {
  test('has every default of the model and a random seed', () => {
    const input = inputOf()
    expect(input).toEqual({
      model: 'tiny-scenes',
      prompt: 'a',
      negative_prompt: '',
      width: 128,
      height: 128,
      num_inference_steps: 20,
      guidance_scale: 4,
      num_images_per_prompt: 1,
      max_sequence_length: 20,
      output_format: 'png',
      seed: input.seed,
    })
  })

  test('has a random seed from 0 to 2^32 - 1, a different one each time', () => {
    const seeds = Array.from({ length: 200 }, () => inputOf().seed)
    for (const seed of seeds) expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true)
    expect(new Set(seeds).size).toBeGreaterThan(190)
    expect(Math.max(...seeds)).toBeGreaterThan(2 ** 31)
  })

  test('keeps what was asked for, including zeros, and nothing about delivery', () => {
    const asked = { guidance_scale: 0, seed: 0, clip_skip: 0, guidance_interval: [0, 0.5] as [number, number], prompt_3: 'b' }
    expect(inputOf({ ...asked, timeout: 5, priority: 3, webhook: 'https://example.com' })).toMatchObject(asked)
    expect(Object.keys(inputOf({ timeout: 5, priority: 3, webhook: 'https://example.com' }))).toEqual(Object.keys(inputOf()))
  })

  test('has as many steps as there are sigmas', () => {
    expect(inputOf({ sigmas: [1, 0.5, 0.2] })).toMatchObject({ num_inference_steps: 3, sigmas: [1, 0.5, 0.2] })
    expect(checkRequest(request({ sigmas: [1, 0.5], num_inference_steps: 2 }), { ...limits, maxPromptLength: 10 })).toEqual([])
    const errors = checkRequest(request({ sigmas: [1, 0.5], num_inference_steps: 3 }), { ...limits, maxPromptLength: 10 })
    expect(errors.map((error) => error.field)).toEqual(['num_inference_steps'])
  })

  test('has a quality only for jpeg and webp', () => {
    expect(inputOf({ output_format: 'webp' }).output_quality).toBe(90)
    expect(inputOf({ output_format: 'jpeg', output_quality: 1 }).output_quality).toBe(1)
    expect(inputOf({ output_format: 'png' }).output_quality).toBeUndefined()
  })

  test('has the scale of each LoRA', () => {
    expect(inputOf({ loras: [{ id: 'tint' }, { id: 'wobble', scale: 0 }] }).loras).toEqual([
      { id: 'tint', scale: 1 },
      { id: 'wobble', scale: 0 },
    ])
  })

  test('has all values of skip-layer guidance if layers are named that the model can skip', () => {
    const asked = { skip_guidance_layers: [0, 5], skip_layer_guidance_stop: 1 }
    const defaults = { skip_layer_guidance_scale: 2.8, skip_layer_guidance_start: 0.01 }
    expect(inputOf(asked)).toMatchObject({ ...asked, ...defaults })
    expect(inputOf()).not.toHaveProperty('skip_layer_guidance_scale')
    expect(fieldsOf({ skip_guidance_layers: [2, 6] })).toEqual(['skip_guidance_layers'])
    const exported = { ...tinyScenes, limits: { ...tinyScenes.limits, layers: undefined } }
    expect(fieldsOf({ skip_guidance_layers: [0] }, exported)).toEqual(['skip_guidance_layers'])
  })

  test('may reach the limits of the model but not exceed them', () => {
    expect(inputOf({ width: 256, height: 16, clip_skip: 1, max_sequence_length: 512 })).toMatchObject({ width: 256, height: 16 })
    expect(fieldsOf({ width: 272 })).toEqual(['width'])
    expect(fieldsOf({ height: 120 })).toEqual(['height'])
    expect(fieldsOf({ clip_skip: 2, max_sequence_length: 513 })).toEqual(['clip_skip', 'max_sequence_length'])
    const narrow = { ...tinyScenes, limits: { ...tinyScenes.limits, max_pixels: 128 * 128 } }
    expect(fieldsOf({ width: 256, height: 64 }, narrow)).toEqual([])
    expect(fieldsOf({ width: 256, height: 80 }, narrow)).toEqual(['width'])
    expect(fieldsOf({ height: 144 }, narrow)).toEqual(['height'])
  })

  test('counts the characters of a prompt, not its code units', () => {
    const check = (prompt: string): number => checkRequest(request({ prompt }), { ...limits, maxPromptLength: 3 }).length
    expect([check('abc'), check('🎨🎨🎨'), check('abcd'), check('🎨🎨🎨🎨')]).toEqual([0, 0, 1, 1])
  })
})
