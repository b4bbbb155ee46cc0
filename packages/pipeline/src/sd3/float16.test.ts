/** The pipeline on a float16 model: every step and every pixel equal those of torch and diffusers, to the bit (tools/make_float16_model.py). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { FlowMatchEulerDiscreteScheduler } from '../schedulers/flow-match-euler-discrete.ts'
import type { StepOutput } from '../schedulers/scheduler.ts'
import { fromFloat16Bits } from '../tensor/float16.ts'
import { Generator, randnTensor } from '../tensor/random-normal.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { CallbackOnStepEnd, GenerateParams } from './generate-params.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const folder = fileURLToPath(new URL('../../test/fixtures/float16-model', import.meta.url))
const expected = JSON.parse(readFileSync(`${folder}/expected.json`, 'utf8')) as { steps: string[]; image: string }
const half = (seed: number, ...dims: number[]): Tensor => randnTensor(dims, new Generator(seed), 'float16')
const floats = (base64: string): Float32Array => fromFloat16Bits(new Uint16Array(Uint8Array.from(Buffer.from(base64, 'base64')).buffer))

const call: GenerateParams = {
  seed: 42,
  numInferenceSteps: 4,
  guidanceScale: 4.3,
  promptEmbeds: half(10, 1, 6, 8),
  pooledPromptEmbeds: half(11, 1, 16),
  negativePromptEmbeds: half(12, 1, 6, 8),
  negativePooledPromptEmbeds: half(13, 1, 16),
}

let pipe: StableDiffusion3Pipeline
beforeAll(async () => {
  const components = { textEncoder: null, textEncoder2: null }
  pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', dtype: 'float16', components })
})
afterAll(() => pipe.close())

it('noise, guidance, steps, the scale of latents and pixels are computed in float16', async () => {
  const steps: Tensor[] = []
  const { images } = await pipe.generate({
    ...call,
    callbackOnStepEnd: (_, __, ___, { latents }) => void steps.push(latents as Tensor),
  })
  expect(steps.map(({ dtype }) => dtype)).toEqual(Array.from({ length: 4 }, () => 'float16'))
  expect(steps.map(({ data }) => data)).toEqual(expected.steps.map(floats))
  expect(Buffer.from(images[0]!.data).toString('base64')).toBe(expected.image)
})

it('given latents of another precision are rounded to float16 before the first step', async () => {
  const latents = randnTensor([1, 16, 8, 8], new Generator(42))
  const { images } = await pipe.generate({ ...call, latents })
  expect(Buffer.from(images[0]!.data).toString('base64')).toBe(expected.image)
})

it('a scheduler may keep the predictions of earlier steps, over which nothing is written', async () => {
  const step = vi.spyOn(FlowMatchEulerDiscreteScheduler.prototype, 'step')
  const copies: (Tensor | undefined)[] = []
  try {
    await pipe.generate({ ...call, callbackOnStepEnd: () => void copies.push(step.mock.lastCall?.[0].clone()) })
    expect(copies).toHaveLength(4)
    expect(step.mock.calls.map(([output]) => output.bits)).toEqual(copies.map((copy) => copy?.bits))
  } finally {
    step.mockRestore()
  }
})

describe('the memory of the latents', () => {
  const stepGuided = vi.spyOn(FlowMatchEulerDiscreteScheduler.prototype, 'stepGuided')
  afterAll(() => stepGuided.mockRestore())
  /** How many buffers the four steps of a call were written to. */
  async function memoriesOf(params: Partial<GenerateParams>): Promise<number> {
    stepGuided.mockClear()
    await pipe.generate({ ...call, ...params })
    const results = stepGuided.mock.results.map(({ value }) => (value as StepOutput).prevSample)
    expect(results).toHaveLength(4)
    return new Set(results.map(({ values }) => values.buffer)).size
  }

  it('is two buffers in turn where nobody is given the latents, and a copy stays as it is', async () => {
    const copies: Tensor[] = []
    const watch: Partial<GenerateParams> = {
      callbackOnStepEnd: (run) => void copies.push(run.copyLatents()),
      callbackOnStepEndTensorInputs: ['promptEmbeds'],
    }
    expect([await memoriesOf({}), await memoriesOf(watch)]).toEqual([2, 2])
    expect(copies.map(({ data }) => data)).toEqual(expected.steps.map(floats))
  })

  it('is not written over where a callback may have kept it', async () => {
    const kept: Tensor[] = []
    expect(await memoriesOf({ callbackOnStepEnd: (_, __, ___, { latents }) => void kept.push(latents as Tensor) })).toBe(4)
    expect(kept.map(({ data }) => data)).toEqual(expected.steps.map(floats))
  })

  it('is copied with what a callback has put in place of the latents', async () => {
    const shown: Tensor[] = []
    const put = half(5, 1, 16, 8, 8)
    const callbackOnStepEnd: CallbackOnStepEnd = (run, step) => {
      if (step > 0) shown.push(run.copyLatents())
      else queueMicrotask(() => setImmediate(() => shown.push(run.copyLatents())))
      return step === 0 ? { latents: put } : undefined
    }
    await memoriesOf({ callbackOnStepEnd, callbackOnStepEndTensorInputs: [] })
    expect(shown[0]?.bits).toEqual(put.bits)
    expect(put.bits).toEqual(half(5, 1, 16, 8, 8).bits)
  })

  it('is not written over where the caller has given it', async () => {
    const latents = half(42, 1, 16, 8, 8)
    const resumed = { step: 1, latents: half(7, 1, 16, 8, 8) }
    await memoriesOf({ latents })
    await pipe.generate({ ...call, resume: resumed })
    expect([latents.bits, resumed.latents.bits]).toEqual([half(42, 1, 16, 8, 8).bits, half(7, 1, 16, 8, 8).bits])
  })
})
