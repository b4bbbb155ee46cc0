import { expect, test } from 'vitest'
import type { z } from 'zod'
import { createJobRequestSchema } from '@easel/contract'
import { describeValue, toFieldErrors } from './field-errors.ts'

function refuse(body: unknown): ReturnType<typeof toFieldErrors> {
  const result = createJobRequestSchema.safeParse(body)
  expect(result.success).toBe(false)
  return toFieldErrors(result.error as z.ZodError, body)
}

test('a field that breaks two rules is named once', () => {
  expect(refuse({ prompt: 'a', seed: 2 ** 53 })).toEqual([
    { field: 'seed', expected: `at most ${Number.MAX_SAFE_INTEGER}`, received: '9007199254740992' },
  ])
})

test('a body with very many wrong fields gets a short answer', () => {
  const fields = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`field_${i}`, i]))
  const errors = refuse({ prompt: 'a', ...fields })
  expect(errors).toHaveLength(50)
  expect(errors[0]).toEqual({ field: 'field_0', expected: 'no field of this name', received: '0' })
})

test('an unknown field is answered with the name it was probably meant to be, if it resembles one', () => {
  const expectedOf = (name: string): string | undefined => {
    const body = { prompt: 'a', [name]: 1 }
    const result = createJobRequestSchema.safeParse(body)
    return toFieldErrors(result.error as z.ZodError, body, Object.keys(createJobRequestSchema.shape))[0]?.expected
  }
  for (const [name, meant] of [
    ['num_inference_step', 'num_inference_steps'],
    ['numInferenceSteps', 'num_inference_steps'],
    ['steps', 'num_inference_steps'],
    ['cfg_scale', 'guidance_scale'],
    ['heigth', 'height'],
    ['widht', 'width'],
    ['negativeprompt', 'negative_prompt'],
    ['sed', 'seed'],
  ] as const) {
    expect([name, expectedOf(name)]).toEqual([name, `no field of this name; did you mean ${meant}?`])
  }
  for (const name of ['x', 'toString', 'constructor', '__proto_', 'sampler_name', 'y'.repeat(100_000)]) {
    expect([name, expectedOf(name)]).toEqual([name, 'no field of this name'])
  }
})

test('a value that is nested more deeply than the stack allows is described like any other', () => {
  const depth = 200_000
  const value: unknown = JSON.parse('['.repeat(depth) + ']'.repeat(depth))
  expect(describeValue(value)).toBe('a value nested too deeply')
  expect(refuse({ prompt: value })[0]?.field).toBe('prompt')
})
