import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { countTurns } from '../../test/count-turns.ts'
import { probeProvider } from '../models/device.ts'
import { ClosedError } from '../models/closed-error.ts'
import { Sd3Transformer } from '../models/sd3-transformer.ts'
import { FlowMatchEulerDiscreteScheduler } from '../schedulers/flow-match-euler-discrete.ts'
import type { PackedRows, RowDims } from '../tensor/packed-rows.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import type { GeneratorState } from '../tensor/random-normal.ts'
import { concatRows, sliceRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { RequestScopedPipeline } from '../index.ts'
import { encodeTexts } from './encode-texts.ts'
import { resolveCall } from './generate-call.ts'
import { GenerateParamsError } from './generate-params.ts'
import type { GenerateParams, StepTensors } from './generate-params.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const model = fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url))
const exportedModel = fileURLToPath(new URL('../../test/models/tiny-scenes-onnx', import.meta.url))
const boat = { prompt: 'a red boat on the sea', seed: 42, numInferenceSteps: 4, width: 64, height: 64 } as const

let pipe: StableDiffusion3Pipeline
beforeAll(async () => {
  pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
})
afterAll(() => pipe.close())

const bytes = async (params: GenerateParams) => (await pipe.generate(params)).images.map((image) => image.data)

/** The embeddings that the pipeline itself makes, without guidance. */
async function embeddingsOf(prompt: string) {
  const { embeds, pooled } = await encodeTexts(pipe, resolveCall({ prompt }, pipe.defaults, pipe.limits), false)
  return { embeds: concatRows(embeds), pooled: concatRows(pooled) }
}

describe('a call', () => {
  it('draws a seed and reports it, and the seed gives the same picture again', async () => {
    const first = await pipe.generate({ ...boat, seed: undefined })
    expect(first.seed).toBeGreaterThanOrEqual(0)
    expect(first.seed).toBeLessThan(2 ** 32)
    expect(await bytes({ ...boat, seed: first.seed })).toEqual([first.images[0]?.data])
    expect((await pipe.generate({ ...boat, seed: undefined })).seed).not.toBe(first.seed)
  })

  it('takes what it is not given from the model: 128 pixels, 20 steps, guidance 4, 20 tokens', async () => {
    let steps = 0
    const { images, timings } = await pipe.generate({
      prompt: 'a star',
      seed: 1,
      callbackOnStepEnd: (call) => {
        steps++
        expect([call.numTimesteps, call.guidanceScale]).toEqual([20, 4])
      },
    })
    expect(steps).toBe(20)
    expect(images[0]).toMatchObject({ width: 128, height: 128 })
    expect(pipe.defaults.maxSequenceLength).toBe(20)
    expect(Object.values(timings).every((ms) => ms > 0)).toBe(true)
  })

  it("gives latents for 'latent', which decode to the picture of 'rgb8'", async () => {
    const { images, latents } = await pipe.generate({ ...boat, outputType: 'latent' })
    expect(images).toEqual([])
    expect(latents?.dims).toEqual([1, 16, 8, 8])
    expect((await pipe.decodeLatents(latents!)).map((image) => image.data)).toEqual(await bytes(boat))
  })

  it('draws each of a list of prompts as if alone, each with its own generator', async () => {
    const prompts = ['a red boat on the sea', 'a big green cat at night']
    const together = await bytes({
      ...boat,
      seed: undefined,
      prompt: prompts,
      negativePrompt: ['a box', 'a ball'],
      numImagesPerPrompt: 2,
      generator: [5, 6, 7, 8].map((seed) => new Generator(seed)),
    })
    const alone: Uint8Array[] = []
    for (const [index, seed] of [5, 6, 7, 8].entries()) {
      const row = Math.floor(index / 2)
      alone.push(...(await bytes({ ...boat, prompt: prompts[row], negativePrompt: ['a box', 'a ball'][row], seed })))
    }
    expect(together).toEqual(alone)
  })

  it('decodes the rows of a batch to the same bytes as the whole batch', async () => {
    const { latents } = await pipe.generate({ ...boat, numImagesPerPrompt: 3, outputType: 'latent' })
    const whole = await pipe.vae.decode(latents!)
    for (let row = 0; row < 3; row++) {
      expect(await pipe.vae.decode(sliceRows(latents!, row, row + 1))).toEqual(sliceRows(whole, row, row + 1))
    }
  })

  it('gives the same with prompt embeddings as with the prompt', async () => {
    const positive = await embeddingsOf(boat.prompt)
    const negative = await embeddingsOf('a box')
    const { prompt: _, ...rest } = boat
    const given = { ...rest, promptEmbeds: positive.embeds, pooledPromptEmbeds: positive.pooled }
    expect(await bytes(given)).toEqual(await bytes(boat))
    const negatives = { negativePromptEmbeds: negative.embeds, negativePooledPromptEmbeds: negative.pooled }
    expect(await bytes({ ...given, ...negatives })).toEqual(await bytes({ ...boat, negativePrompt: 'a box' }))
  })

  it('takes embeddings and latents as they are when it begins, whatever the caller does with their memory later', async () => {
    const [boatRow, catRow] = [await embeddingsOf(boat.prompt), await embeddingsOf('a big green cat at night')]
    const { prompt: _, ...rest } = boat
    const own = { promptEmbeds: boatRow.embeds.clone(), pooledPromptEmbeds: boatRow.pooled.clone() }
    const call = { ...rest, guidanceScale: 1, ...own }
    const first = bytes(call)
    const write = ({ embeds, pooled }: typeof catRow): void => {
      own.promptEmbeds.data.set(embeds.data)
      own.pooledPromptEmbeds.data.set(pooled.data)
    }
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
    write(catRow)
    expect(await first).toEqual(await bytes({ ...boat, guidanceScale: 1 }))
    expect(await bytes(call)).toEqual(await bytes({ ...boat, guidanceScale: 1, prompt: 'a big green cat at night' }))
    // The same holds for latents
    const latents = randn([1, 16, 8, 8], new Generator(3))
    const other = randn([1, 16, 8, 8], new Generator(4))
    const given = { ...boat, width: 64, height: 64, latents: latents.clone() }
    const started = bytes(given)
    given.latents.data.set(other.data)
    expect(await started).toEqual(await bytes({ ...given, latents }))
    // and for what a step callback returns: here one tensor, written to between two steps.
    const switching = (fresh: boolean) =>
      bytes({
        ...boat,
        guidanceScale: 1,
        callbackOnStepEnd: (_, step) => {
          write(step === 0 ? boatRow : catRow)
          const { promptEmbeds, pooledPromptEmbeds } = own
          return fresh ? { promptEmbeds: promptEmbeds.clone(), pooledPromptEmbeds: pooledPromptEmbeds.clone() } : own
        },
      })
    expect(await switching(false)).toEqual(await switching(true))
  })

  it('uses the first prompt in place of an empty second one, but not in place of a different one', async () => {
    const plain = await bytes(boat)
    expect(await bytes({ ...boat, prompt2: '', prompt3: '', negativePrompt: '' })).toEqual(plain)
    expect(await bytes({ ...boat, prompt2: 'a cat' })).not.toEqual(plain)
    expect(await bytes({ ...boat, prompt3: 'a cat' })).not.toEqual(plain)
  })

  it('takes prompts longer than its maximum of tokens, and a maximum above its default', async () => {
    const { images } = await pipe.generate({ ...boat, prompt: 'a red boat on the sea '.repeat(50), maxSequenceLength: 64 })
    expect(images).toHaveLength(1)
  })
})

describe('the step callback', () => {
  it('may replace latents and embeddings', async () => {
    const plain = await bytes(boat)
    const cat = await embeddingsOf('a big green cat at night')
    const asked = ['latents', 'promptEmbeds', 'pooledPromptEmbeds'] as const
    const replaced = await bytes({
      ...boat,
      guidanceScale: 1,
      callbackOnStepEndTensorInputs: asked,
      callbackOnStepEnd: (_, step, __, tensors) => {
        expect(Object.keys(tensors)).toEqual(asked)
        return step === 0 ? { promptEmbeds: cat.embeds, pooledPromptEmbeds: cat.pooled } : undefined
      },
    })
    expect(replaced).not.toEqual(await bytes({ ...boat, guidanceScale: 1 }))
    const other = await pipe.generate({ ...boat, prompt: 'a star', outputType: 'latent' })
    const { latents } = await pipe.generate({
      ...boat,
      outputType: 'latent',
      callbackOnStepEnd: (_, step) => (step === 3 ? { latents: other.latents! } : {}),
    })
    expect(latents).toEqual(other.latents)
    expect(await bytes({ ...boat, callbackOnStepEnd: async () => undefined })).toEqual(plain)
  })

  it('may replace the pooled embeddings alone', async () => {
    const cat = await embeddingsOf('a big green cat at night')
    const replacing = (tensors: StepTensors) =>
      bytes({ ...boat, guidanceScale: 1, callbackOnStepEnd: (_, step) => (step === 0 ? tensors : undefined) })
    const own = await embeddingsOf(boat.prompt)
    const pooledOnly = await replacing({ pooledPromptEmbeds: cat.pooled })
    expect(pooledOnly).not.toEqual(await bytes({ ...boat, guidanceScale: 1 }))
    expect(pooledOnly).toEqual(await replacing({ promptEmbeds: own.embeds, pooledPromptEmbeds: cat.pooled }))
  })

  it('may write to the embeddings it is shown, which other requests for the same prompt do not notice', async () => {
    const plain = await bytes({ ...boat, guidanceScale: 1 })
    await bytes({
      ...boat,
      guidanceScale: 1,
      callbackOnStepEndTensorInputs: ['promptEmbeds', 'pooledPromptEmbeds'],
      callbackOnStepEnd: (_, __, ___, { promptEmbeds, pooledPromptEmbeds }) => {
        promptEmbeds?.data.fill(9)
        pooledPromptEmbeds?.data.fill(9)
      },
    })
    expect(await bytes({ ...boat, guidanceScale: 1 })).toEqual(plain)
  })

  it('sees the embeddings with the negative rows first, and nothing it did not ask for', async () => {
    await pipe.generate({
      ...boat,
      callbackOnStepEndTensorInputs: ['promptEmbeds'],
      callbackOnStepEnd: (_, __, ___, tensors) => {
        expect(tensors.latents).toBeUndefined()
        expect(tensors.promptEmbeds?.dims).toEqual([2, 40, 128])
      },
    })
  })

  it('may interrupt the call, whose remaining steps are left out', async () => {
    let seen: Tensor | undefined
    let steps = 0
    const { latents } = await pipe.generate({
      ...boat,
      outputType: 'latent',
      callbackOnStepEnd: (call, step, _, tensors) => {
        steps++
        seen = tensors.latents
        if (step === 1) call._interrupt = true
      },
    })
    expect(steps).toBe(2)
    expect(latents).toEqual(seen)
    expect(await bytes(boat)).toHaveLength(1)
  })

  it('that throws ends the call with its error and leaves the next call unharmed', async () => {
    const plain = await bytes(boat)
    const failing = pipe.generate({
      ...boat,
      callbackOnStepEnd: () => {
        throw new Error('enough')
      },
    })
    await expect(failing).rejects.toThrow('enough')
    expect(await bytes(boat)).toEqual(plain)
  })

  it('that returns latents of other dims is refused', async () => {
    const call = pipe.generate({ ...boat, callbackOnStepEnd: () => ({ latents: randn([1, 16, 4, 4], new Generator(1)) }) })
    await expect(call).rejects.toThrow('Expected latents of callbackOnStepEnd to be of dims [1, 16, 8, 8], got [1, 16, 4, 4]')
  })
})

describe('an AbortSignal', () => {
  it('stops the call before the next step with its reason', async () => {
    const controller = new AbortController()
    let steps = 0
    const call = pipe.generate({
      ...boat,
      signal: controller.signal,
      callbackOnStepEnd: () => {
        if (++steps === 2) controller.abort()
      },
    })
    await expect(call).rejects.toMatchObject({ name: 'AbortError' })
    expect(steps).toBe(2)
  })

  it('that has already aborted stops the call at once, with the reason given', async () => {
    const reason = new Error('not wanted any more')
    await expect(pipe.generate({ ...boat, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

it('given sigmas may repeat, even the first of them', async () => {
  const { images } = await pipe.generate({ ...boat, numInferenceSteps: undefined, sigmas: [0.9, 0.9, 0.4] })
  expect(images).toHaveLength(1)
})

it('a step callback that returns something else in place of a tensor is refused with what it returned', async () => {
  const callbackOnStepEnd = (): never => ({ latents: 5 }) as never
  await expect(pipe.generate({ ...boat, callbackOnStepEnd })).rejects.toThrow(
    'Expected latents of callbackOnStepEnd to be a Tensor, got number',
  )
})

describe('resuming', () => {
  async function checkpoints(params: GenerateParams): Promise<Tensor[]> {
    const latents: Tensor[] = []
    await pipe.generate({ ...params, callbackOnStepEnd: (_, __, ___, tensors) => void latents.push(tensors.latents!.clone()) })
    return latents
  }

  it('after any step gives the bytes of the uninterrupted call', async () => {
    for (const params of [boat, { ...boat, numImagesPerPrompt: 2, sigmas: [1, 0.7, 0.4] }]) {
      const uninterrupted = await bytes(params)
      for (const [index, latents] of (await checkpoints(params)).entries()) {
        expect(await bytes({ ...params, resume: { step: index + 1, latents } })).toEqual(uninterrupted)
      }
    }
  })

  it('with a scheduler that draws noise at every step needs the generator state, and then gives the same bytes', async () => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ stochasticSampling: true })
    const stochastic = await StableDiffusion3Pipeline.fromPretrained(model, {
      device: 'cpu',
      components: { ...pipe.components, scheduler },
    })
    const { seed: _, ...params } = boat
    const states: GeneratorState[] = []
    const latents: Tensor[] = []
    const generator = new Generator(9)
    const { images } = await stochastic.generate({
      ...params,
      generator,
      callbackOnStepEnd: (_, __, ___, tensors) => {
        latents.push(tensors.latents!.clone())
        states.push(structuredClone(generator.getState()))
      },
    })
    const resume = { step: 2, latents: latents[1]! }
    const resumed = await stochastic.generate({ ...params, seed: 9, resume: { ...resume, generatorState: states[1]! } })
    expect(resumed.images).toEqual(images)
    await expect(stochastic.generate({ ...params, seed: 9, resume })).rejects.toThrow(
      'Expected resume.generatorState to be one state for each',
    )
    await stochastic.close()
    expect(await bytes(boat)).toHaveLength(1)
  })

  it('from an impossible step or impossible latents is refused', async () => {
    const latents = randn([1, 16, 8, 8], new Generator(1))
    await expect(pipe.generate({ ...boat, resume: { step: 5, latents } })).rejects.toThrow(
      'Expected resume.step to be an integer from 0 to 4, got 5',
    )
    await expect(pipe.generate({ ...boat, resume: { step: 1, latents: concatRows([latents, latents]) } })).rejects.toThrow(
      /resume\.latents.*\[1, 16, 8, 8\], got \[2/,
    )
  })
})

describe('skip-layer guidance', () => {
  let exported: StableDiffusion3Pipeline
  beforeAll(async () => {
    exported = await StableDiffusion3Pipeline.fromPretrained(exportedModel, { device: 'cpu' })
  })
  afterAll(() => exported.close())
  const bytes = async (params: GenerateParams) => (await exported.generate(params)).images.map((image) => image.data)

  /** An exported transformer, which takes no mask, with a mask added: rows that skip layers come out as zeros. */
  class Masking extends Sd3Transformer {
    readonly masks: number[][][] = []
    zeroes = true
    override get layers(): number {
      return 3
    }
    override async run(packed: PackedRows, dims: RowDims): Promise<void> {
      const { rows, layerMask = new Float32Array(), output } = packed
      const masks = Array.from({ length: rows }, (_, row) => [...layerMask.subarray(row * 3, row * 3 + 3)])
      this.masks.push(masks)
      await super.run({ ...packed, layerMask: undefined }, dims)
      const length = output.length / rows
      for (const [row, mask] of masks.entries()) if (this.zeroes && mask.includes(0)) output.fill(0, row * length, (row + 1) * length)
    }
  }
  async function createMasking() {
    const transformer = new Masking(exported.transformer.config, exported.transformer.session)
    const masking = await StableDiffusion3Pipeline.fromPretrained(exportedModel, {
      device: 'cpu',
      components: { ...exported.components, transformer },
    })
    masking.runtime.batcher.profile.rowsFor = (_, waiting) => waiting
    return { transformer, masking }
  }

  it('runs the prompt a third time in its share of the steps, in the same call as the other rows', async () => {
    const { transformer, masking } = await createMasking()
    const params = { ...boat, numInferenceSteps: 10, skipGuidanceLayers: [2, 1] }
    const { images } = await masking.generate({ ...params, skipLayerGuidanceStop: 0.35 })
    // The steps of ten above 0.1 and below 3.5 have negative, positive and skipping rows together.
    const [all, skipping] = [
      [1, 1, 1],
      [1, 0, 0],
    ]
    expect(transformer.masks).toHaveLength(10)
    for (const [step, masks] of transformer.masks.entries())
      expect(masks.toSorted((a, b) => a.join().localeCompare(b.join()))).toEqual(step >= 1 && step <= 3 ? [skipping, all, all] : [all, all])
    expect(masking.engineStats().rows).toBe(10 * 2 + 3)
    expect(images.map(({ data }) => data)).not.toEqual(await bytes({ ...boat, numInferenceSteps: 10 }))
    // When both predictions are equal, there is nothing to steer away from.
    transformer.zeroes = false
    expect((await masking.generate(params)).images.map(({ data }) => data)).toEqual(await bytes({ ...boat, numInferenceSteps: 10 }))
  })

  it('leaves out the steps at both of its bounds', async () => {
    const { transformer, masking } = await createMasking()
    const share = { skipLayerGuidanceStart: 0.1, skipLayerGuidanceStop: 0.4 }
    await masking.generate({ ...boat, numInferenceSteps: 10, skipGuidanceLayers: [0], ...share })
    const skipping = [...transformer.masks.keys()].filter((step) => transformer.masks[step]?.some((mask) => mask.includes(0)))
    expect(skipping).toEqual([2, 3])
  })

  it('refuses layers that the transformer does not have, and any where it takes no mask', async () => {
    const { masking } = await createMasking()
    await expect(masking.generate({ ...boat, skipGuidanceLayers: [3] })).rejects.toThrow(
      'Expected skipGuidanceLayers to be a list of layers from 0 to 2, got [3]',
    )
    const refused = exported.generate({ ...boat, skipGuidanceLayers: [1] })
    await expect(refused).rejects.toBeInstanceOf(GenerateParamsError)
    await expect(refused).rejects.toThrow('Expected skipGuidanceLayers to be absent, as the transformer takes no layer mask, got [1]')
  })
})

describe('a pipeline', () => {
  it('without a T5 encoder has zeros in place of its embeddings', async () => {
    const small = await StableDiffusion3Pipeline.fromPretrained(model, {
      device: 'cpu',
      components: { ...pipe.components, textEncoder3: null, tokenizer3: null },
    })
    const { images } = await small.generate(boat)
    expect(images[0]?.data).not.toEqual((await bytes(boat))[0])
    const [embeds] = (await encodeTexts(small, resolveCall({ prompt: boat.prompt }, small.defaults, small.limits), false)).embeds
    // 20 CLIP tokens, then 20 T5 tokens, each 128 wide.
    expect(embeds?.dims).toEqual([1, 40, 128])
    expect(embeds?.data.subarray(20 * 128).every((value) => value === 0)).toBe(true)
    expect(embeds?.data.subarray(0, 20 * 128).some((value) => value !== 0)).toBe(true)
    await small.close()
  })

  it('without a CLIP encoder says so, and still takes embeddings', async () => {
    const bare = await StableDiffusion3Pipeline.fromPretrained(model, {
      device: 'cpu',
      components: { ...pipe.components, textEncoder: null },
    })
    await expect(bare.generate(boat)).rejects.toThrow('Expected a model with text_encoder and its tokenizer, or promptEmbeds')
    const { embeds, pooled } = await embeddingsOf(boat.prompt)
    const { prompt: _, ...rest } = boat
    const { images } = await bare.generate({ ...rest, guidanceScale: 1, promptEmbeds: embeds, pooledPromptEmbeds: pooled })
    expect(images.map(({ data }) => data)).toEqual(await bytes({ ...boat, guidanceScale: 1 }))
    await bare.close()
  })

  it('with dynamic shifting takes mu from the picture size unless it is given', async () => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ useDynamicShifting: true })
    const dynamic = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', components: { ...pipe.components, scheduler } })
    const timesteps = async (params: GenerateParams) => {
      const seen: number[] = []
      await dynamic.generate({ ...boat, ...params, callbackOnStepEnd: (_, __, timestep) => void seen.push(timestep) })
      return seen
    }
    // 64 × 64 pixels are 16 patches: mu = 0.5 + (16 − 256) × 0.65 / 3840.
    expect(await timesteps({})).toEqual(await timesteps({ mu: 16 * (0.65 / 3840) + (0.5 - (0.65 / 3840) * 256) }))
    expect(await timesteps({})).not.toEqual(await timesteps({ width: 128, height: 128 }))
    await dynamic.close()
  })

  it('refuses a schedule that its scheduler does not take, even on a view, instead of running another one', async () => {
    class StepsOnly extends FlowMatchEulerDiscreteScheduler {
      override readonly accepts = []
      override clone(): StepsOnly {
        return new StepsOnly(this.config)
      }
    }
    const scheduler = new StepsOnly()
    const plain = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', components: { ...pipe.components, scheduler } })
    const call = { ...boat, numInferenceSteps: undefined, sigmas: [1, 0.5] }
    for (const target of [plain, new RequestScopedPipeline(plain)])
      await expect(target.generate(call)).rejects.toThrow('Expected a scheduler that takes custom sigmas, got StepsOnly')
    expect((await plain.generate(boat)).images).toHaveLength(1)
    await plain.close()
  })

  it('carries out concurrent calls on one object as if each were alone', async () => {
    const calls = [boat, { ...boat, numInferenceSteps: 7, seed: 5 }, { ...boat, guidanceScale: 1, sigmas: [1, 0.5] }]
    const alone: Uint8Array[][] = []
    for (const call of calls) alone.push(await bytes(call))
    expect(await Promise.all(calls.map(bytes))).toEqual(alone)
  })

  it('gives views whose parts can be replaced without the pipeline noticing', async () => {
    const plain = await bytes(boat)
    const view = pipe.cloneForRequest()
    expect(view).toBeInstanceOf(StableDiffusion3Pipeline)
    expect(view.scheduler).not.toBe(pipe.scheduler)
    view.scheduler.setTimesteps(3)
    view.scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 7 })
    expect((await view.generate(boat)).images.map(({ data }) => data)).not.toEqual(plain)
    expect(await bytes(boat)).toEqual(plain)
    expect(view.runtime).toBe(pipe.runtime)
  })

  it('lets the event loop turn between steps', async () => {
    const counter = countTurns()
    const turns = new Set<number>()
    await pipe.generate({ ...boat, numInferenceSteps: 8, callbackOnStepEnd: () => void turns.add(counter.now()) })
    counter.stop()
    expect(turns.size).toBe(8)
  })

  it('can be closed twice, after which calls fail with a clear error, and parts that it was given stay open', async () => {
    const second = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', components: { transformer: pipe.transformer } })
    await second.close()
    await second.close()
    await expect(second.generate(boat)).rejects.toThrow(ClosedError)
    await expect(second.vae.decode(randn([1, 16, 8, 8], new Generator(1)))).rejects.toThrow(
      /vae\/diffusion_pytorch_model\.safetensors, got one that has been closed/,
    )
    expect(await bytes(boat)).toHaveLength(1)
  })

  it('that is closed during a call ends it with a clear error', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'easel-close-'))
    await symlink(model, join(folder, 'linked'))
    const other = await StableDiffusion3Pipeline.fromPretrained('linked', { device: 'cpu', modelsDir: folder })
    const call = other.generate({ ...boat, callbackOnStepEnd: (_, step) => void (step === 0 && other.close()) })
    await expect(call).rejects.toThrow(ClosedError)
    await other.close()
    await rm(folder, { recursive: true })
  })

  it('reports what its model takes', () => {
    expect(pipe.limits).toEqual({ sizeMultiple: 16, maxSide: 256, maxSequenceLength: 512, maxClipSkip: 1, layers: 6, takesLoras: false })
    expect(pipe.device).toEqual({ requested: 'cpu', provider: 'cpu', reason: 'asked for' })
    expect(pipe.model.id).toBe('tiny-scenes')
  })
})

describe('on a GPU', () => {
  it.for(['cuda', 'coreml', 'dml', 'webgpu'] as const)('%s gives the picture of the CPU, except for rounding', async (device, { skip }) => {
    const failure = await probeProvider(device)
    if (failure !== undefined) skip(`${device} does not work here: ${failure}`)
    const other = await StableDiffusion3Pipeline.fromPretrained(model, { device })
    const { images } = await other.generate({ ...boat, numInferenceSteps: 2 })
    const [expected] = await bytes({ ...boat, numInferenceSteps: 2 })
    const differences = expected!.map((value, index) => Math.abs(value - images[0]!.data[index]!))
    expect(differences.reduce((sum, value) => sum + value, 0) / differences.length).toBeLessThan(0.5)
    await other.close()
  })
})

describe('the autoencoder', () => {
  it('encodes a picture to latents close to those it was decoded from', async () => {
    const latents = (await pipe.generate({ prompt: 'a red ball in the snow', seed: 3, numInferenceSteps: 12, outputType: 'latent' }))
      .latents!
    const { scaling_factor, shift_factor } = pipe.vae.config
    const own = new Tensor(
      latents.data.map((value) => value / scaling_factor + shift_factor),
      latents.dims,
    )
    const { mean, logvar } = await pipe.vae.encode(await pipe.vae.decode(own))
    expect(mean.dims).toEqual(latents.dims)
    expect(logvar.dims).toEqual(latents.dims)
    const error = Math.sqrt(own.data.reduce((sum, value, index) => sum + (value - mean.data[index]!) ** 2, 0) / own.numel)
    const size = Math.sqrt(own.data.reduce((sum, value) => sum + value ** 2, 0) / own.numel)
    expect(error / size).toBeLessThan(0.5)
  })
})
