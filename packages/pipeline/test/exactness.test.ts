/**
 * Batched equals alone: whatever shares a step with a request, wherever its rows are cut and whoever joins, leaves or is canceled meanwhile, its
 * result has the bytes of the same request run alone.
 */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { probeProvider } from '../src/models/device.ts'
import type { GenerateParams } from '../src/sd3/generate-params.ts'
import { StableDiffusion3Pipeline } from '../src/sd3/pipeline.ts'
import type { GenerateResult } from '../src/sd3/generate-result.ts'
import { RequestScopedPipeline } from '../src/request-scoped/request-scoped-pipeline.ts'
import type { StepRecord } from '../src/runtime/step-batcher.ts'
import { startTogether } from './start-together.ts'

const model = fileURLToPath(new URL('../../../models/tiny-scenes', import.meta.url))
const compositions = 102

/** Random numbers from a seed, so that a failure can be run again (mulberry32). */
function createRandom(seed: number) {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const integer = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
  return {
    chance: (probability: number) => next() < probability,
    integer,
    pick: <T>(values: readonly T[]) => values[integer(0, values.length - 1)] as T,
  }
}

const random = createRandom(20_260_131)
/** Apart from the others, because how often a step asks depends on the times measured. */
const cuts = createRandom(7)
const prompts = ['a red boat on the sea', 'a big green cat at night', 'a star', '']

const requests = Array.from({ length: 36 }, (_, index): GenerateParams => {
  const interval = random.pick([undefined, [0.25, 0.75], [0, 0.5], [0.5, 1]] as const)
  return {
    prompt: random.pick(prompts),
    negativePrompt: random.pick(['', '', 'a box']),
    seed: index,
    width: random.pick([32, 32, 48]),
    height: random.pick([32, 32, 32, 64]),
    numInferenceSteps: random.pick([1, 2, 3, 3, 4, 6]),
    guidanceScale: random.pick([0, 1.5, 4, 7]),
    numImagesPerPrompt: random.pick([1, 1, 2, 3]),
    maxSequenceLength: random.pick([20, 20, 20, 20, 20, 12]),
    outputType: random.pick(['latent', 'latent', 'rgb8']),
    ...(interval === undefined ? {} : { guidanceInterval: interval }),
  }
})

let pipe: StableDiffusion3Pipeline
let alone: Buffer[]
/** One batcher with measured steps, one with a low limit and first come, first served, and one that takes all rows or cuts anywhere. */
let variants: { scoped: RequestScopedPipeline<StableDiffusion3Pipeline>; steps: StepRecord[] }[]

beforeAll(async () => {
  pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
  alone = []
  for (const request of requests) alone.push(bytesOf(await pipe.generate(request)))
  variants = []
  for (const batching of [{}, { maxBatchRows: 3, policy: 'fcfs' }, {}] as const) {
    const steps: StepRecord[] = []
    const variant = await StableDiffusion3Pipeline.fromPretrained(model, {
      device: 'cpu',
      components: pipe.components,
      batching: { ...batching, onStep: (step) => steps.push(step) },
    })
    if (variants.length === 2)
      variant.runtime.batcher.profile.rowsFor = (_, waiting) => (cuts.chance(0.5) ? waiting : cuts.integer(1, waiting))
    variants.push({ scoped: new RequestScopedPipeline(variant), steps })
  }
})

afterAll(() => pipe.close())

describe('a batch', () => {
  it(`gives each request byte for byte what it gives alone, in ${compositions} compositions of joining, leaving and canceled requests`, async () => {
    let differingBytes = 0
    let compared = 0
    let canceled = 0
    for (let composition = 0; composition < compositions; composition++) {
      const { scoped } = variants[composition % variants.length] as (typeof variants)[number]
      const members = Array.from({ length: random.integer(2, 6) }, () => ({
        index: random.integer(0, requests.length - 1),
        joinAfterTurns: random.chance(0.5) ? 0 : random.integer(1, 12),
        cancelAtStep: random.chance(0.15) ? random.integer(0, 4) : undefined,
      }))
      const outcomes = await Promise.allSettled(
        members.map(async ({ index, joinAfterTurns, cancelAtStep }) => {
          for (let turn = 0; turn < joinAfterTurns; turn++) await new Promise((resolve) => setImmediate(resolve))
          const abort = new AbortController()
          const callbackOnStepEnd = (_: unknown, step: number): undefined => {
            // The next call may wait by then, or not yet.
            if (step === cancelAtStep) setImmediate(() => abort.abort())
          }
          return scoped.generate({ ...requests[index], signal: abort.signal, callbackOnStepEnd })
        }),
      )
      for (const [member, outcome] of outcomes.entries()) {
        const { index, cancelAtStep } = members[member] as (typeof members)[number]
        if (outcome.status === 'rejected') {
          if (cancelAtStep === undefined || (outcome.reason as Error).name !== 'AbortError') throw outcome.reason
          canceled++
          continue
        }
        const expected = alone[index] as Buffer
        const got = bytesOf(outcome.value)
        if (got.length !== expected.length) throw new Error(`Expected ${expected.length} bytes, got ${got.length}`)
        if (!got.equals(expected)) differingBytes += got.filter((byte, at) => byte !== expected[at]).length
        compared++
      }
    }
    expect(differingBytes).toBe(0)
    expect(compared).toBeGreaterThan(compositions * 2)
    expect(canceled).toBeGreaterThan(10)
    // The compositions are what they claim: there were steps of many requests, of many rows, and with cut requests.
    const [, limited, anywhere] = variants.map(({ steps }) => steps) as [StepRecord[], StepRecord[], StepRecord[]]
    expect(anywhere.some(({ rows, calls }) => rows >= 6 && calls >= 3)).toBe(true)
    expect(Math.max(...limited.map(({ rows }) => rows))).toBe(3)
    expect(anywhere.filter(({ calls }) => calls >= 2).length).toBeGreaterThan(20)
    expect(anywhere.filter(({ rowsLeft }) => rowsLeft > 0).length).toBeGreaterThan(50)
  })

  it('has only the rows of the prompt outside the guidance interval, and the picture differs from full guidance', async () => {
    const { scoped, steps } = variants[2] as (typeof variants)[number]
    const rowsOf = async (params: GenerateParams) => {
      const before = steps.length
      const result = await scoped.generate({
        prompt: 'a star',
        seed: 1,
        width: 32,
        height: 32,
        numInferenceSteps: 4,
        guidanceScale: 4,
        ...params,
      })
      return { rows: steps.slice(before).reduce((sum, step) => sum + step.rows, 0), bytes: bytesOf(result) }
    }
    const whole = await rowsOf({})
    const half = await rowsOf({ guidanceInterval: [0.25, 0.75] })
    const never = await rowsOf({ guidanceInterval: [0.5, 0.5] })
    expect([whole.rows, half.rows, never.rows]).toEqual([8, 6, 4])
    expect(await rowsOf({ guidanceInterval: [0, 1] })).toEqual(whole)
    expect(half.bytes.equals(whole.bytes)).toBe(false)
    expect(never.bytes).toEqual((await rowsOf({ guidanceScale: 1 })).bytes)
    await expect(scoped.generate({ prompt: 'a star', guidanceInterval: [0.5, 0.2] })).rejects.toThrow(
      'Expected guidanceInterval to be [start, stop] with 0 <= start <= stop <= 1',
    )
  })
})

/** A software Vulkan driver: Debian's chromium package brings one. */
const softwareVulkan = '/usr/lib/chromium/vk_swiftshader_icd.json'

describe('on a GPU provider', () => {
  it('WebGPU in software gives the latents of the CPU within 1e-4, and batched ones differ from those alone only by rounding', async ({
    skip,
  }) => {
    if (!existsSync(softwareVulkan)) skip(`no Vulkan driver at ${softwareVulkan}: install Debian's chromium package`)
    process.env['VK_DRIVER_FILES'] = softwareVulkan
    process.env['XDG_RUNTIME_DIR'] ??= tmpdir()
    const failure = await probeProvider('webgpu')
    if (failure !== undefined) skip(`WebGPU does not work here: ${failure}`)
    const steps: StepRecord[] = []
    const gpu = await StableDiffusion3Pipeline.fromPretrained(model, {
      device: 'webgpu',
      batching: { onStep: (step) => steps.push(step) },
    })
    gpu.runtime.batcher.profile.rowsFor = (_, waiting) => waiting
    const params = [1, 2].map((seed): GenerateParams => ({
      prompt: prompts[seed] as string,
      seed,
      width: 32,
      height: 32,
      numInferenceSteps: seed,
      outputType: 'latent',
    }))
    const separate: GenerateResult[] = []
    for (const request of params) separate.push(await gpu.generate(request))
    const scoped = new RequestScopedPipeline(gpu)
    const calls = params.map((request) => () => scoped.generate(request))
    const together = await Promise.all(await startTogether(gpu.runtime.batcher, calls))
    expect(Math.max(...steps.map(({ rows }) => rows))).toBe(4)
    for (const [index, { latents }] of together.entries()) {
      const expected = separate[index]?.latents?.data as Float32Array
      const differences = expected.map((value, at) => Math.abs(value - (latents?.data[at] as number)))
      expect(Math.max(...differences)).toBeLessThan(1e-3)
    }
    const cpu = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
    for (const [index, request] of params.entries()) {
      const { latents } = await cpu.generate(request)
      const expected = separate[index]?.latents?.data as Float32Array
      const differences = expected.map((value, at) => Math.abs(value - (latents?.data[at] as number)))
      expect(Math.max(...differences)).toBeLessThan(1e-4)
    }
    await cpu.close()
    await gpu.close()
  })
})

function bytesOf({ images, latents }: GenerateResult): Buffer {
  const parts = [...images.map(({ data }) => data), ...(latents === undefined ? [] : [latents.data])]
  return Buffer.concat(parts.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)))
}
