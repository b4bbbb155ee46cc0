/** Calls that start from a picture, on the real model: beside others, with many pictures, interrupted, and with input that cannot be used. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { startTogether } from './start-together.ts'
import type {
  CallbackOnStepEnd,
  GenerateParams,
  GenerateResult,
  Gray8Image,
  Img2ImgParams,
  InpaintParams,
  ResumePoint,
  Rgb8Image,
  StepRecord,
} from '../src/index.ts'
import {
  FlowMatchEulerDiscreteScheduler,
  GenerateParamsError,
  Generator,
  imageGenerators,
  randn,
  RequestScopedPipeline,
  StableDiffusion3Img2ImgPipeline,
  StableDiffusion3InpaintPipeline,
  StableDiffusion3Pipeline,
  Tensor,
} from '../src/index.ts'

const model = fileURLToPath(new URL('../../../models/tiny-scenes', import.meta.url))
const side = 64
const boat = { prompt: 'a blue boat on the sea', seed: 42, numInferenceSteps: 5 } as const

let picture: Rgb8Image
/** The left half is kept. */
const mask: Gray8Image = grey((x) => (x < side / 2 ? 127 : 128))
const steps: StepRecord[] = []
let pipe: StableDiffusion3Pipeline
let img2img: StableDiffusion3Img2ImgPipeline
let inpaint: StableDiffusion3InpaintPipeline

beforeAll(async () => {
  const file = readFileSync(new URL('golden/pipeline/boat.png', import.meta.url))
  picture = { data: await sharp(file).removeAlpha().resize(side, side).raw().toBuffer(), width: side, height: side }
  pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', batching: { onStep: (step) => steps.push(step) } })
  img2img = StableDiffusion3Img2ImgPipeline.fromPipe(pipe)
  inpaint = StableDiffusion3InpaintPipeline.fromPipe(pipe)
})
afterAll(() => pipe.close())

function grey(value: (x: number, y: number) => number): Gray8Image {
  const data = Uint8Array.from({ length: side * side }, (_, pixel) => value(pixel % side, Math.floor(pixel / side)))
  return { data, width: side, height: side }
}
const pixels = ({ images }: GenerateResult) => images.map(({ data }) => data)
const latentsOf = async (result: Promise<GenerateResult>) => (await result).latents as Tensor
const toTensor = ({ data, width, height }: Rgb8Image) => {
  const plane = width * height
  const values = Float32Array.from({ length: plane * 3 }, (_, i) => (data[(i % plane) * 3 + Math.floor(i / plane)] as number) / 255)
  return new Tensor(values, [1, 3, height, width])
}

describe('a pipeline made from another', () => {
  it('has the same parts and runtime and a scheduler of its own, and can be made back into the first kind', () => {
    const { scheduler, ...parts } = pipe.components
    for (const made of [img2img, inpaint, StableDiffusion3Pipeline.fromPipe(inpaint)]) {
      expect(made.components).toMatchObject(parts)
      expect(made.runtime).toBe(pipe.runtime)
      expect(made.scheduler).not.toBe(scheduler)
      expect(made.limits).toEqual(pipe.limits)
    }
    expect(StableDiffusion3Pipeline.fromPipe(inpaint).constructor).toBe(StableDiffusion3Pipeline)
    expect(inpaint.cloneForRequest()).toBeInstanceOf(StableDiffusion3InpaintPipeline)
  })

  it("takes the number of steps from the model, or diffusers' 50 where the model gives none", () => {
    expect(img2img.defaults).toEqual(pipe.defaults)
    const silent = { ...pipe.modelDefaults, numInferenceSteps: undefined }
    const stepsOf = (made: StableDiffusion3Pipeline) => Object.assign(made, { modelDefaults: silent }).defaults.numInferenceSteps
    expect([pipe, img2img, inpaint].map((made) => stepsOf(made.cloneForRequest()))).toEqual([28, 50, 50])
  })
})

describe('fifty calls at once, of text, from a picture and inside a mask', () => {
  // As many rows as wait share a step, whatever this machine measures while it is busy.
  beforeEach(() => void vi.spyOn(pipe.runtime.batcher.profile, 'rowsFor').mockImplementation((_, waiting) => waiting))
  afterEach(() => void vi.restoreAllMocks())
  const scoped = () => ({
    text: new RequestScopedPipeline(pipe),
    image: new RequestScopedPipeline(img2img),
    mask: new RequestScopedPipeline(inpaint),
  })
  const request = (index: number) => ({
    prompt: `a ${['red', 'blue', 'green'][index % 3]} boat on the sea`,
    seed: 100 + index,
    numInferenceSteps: 2 + (index % 4),
    guidanceScale: [1, 4, 7][index % 3] as number,
  })
  const run = ({ text, image, mask: masked }: ReturnType<typeof scoped>, index: number) => {
    const params = request(index)
    const strength = 0.3 + (index % 7) / 10
    if (index % 5 < 2) return text.generate({ ...params, width: side, height: side })
    if (index % 5 < 4) return image.generate({ ...params, image: picture, strength })
    return masked.generate({ ...params, image: picture, maskImage: mask, strength })
  }

  it('give byte for byte what each gives alone, and share steps', async () => {
    const all = scoped()
    const alone: Uint8Array[][] = []
    for (let index = 0; index < 50; index++) alone.push(pixels(await run(all, index)))
    steps.length = 0
    const calls = alone.map((_, index) => () => run(all, index))
    const together = await Promise.all(await startTogether(pipe.runtime.batcher, calls))
    expect(together.map(pixels)).toEqual(alone)
    const rows = steps.reduce((sum, step) => sum + step.rows, 0)
    // Alone, a step has at most the two rows of a guided picture.
    expect(rows / steps.length).toBeGreaterThan(2)
  })

  it('share one step, all three kinds', async () => {
    const all = scoped()
    const params = { ...boat, numInferenceSteps: 12 }
    const calls = [
      () => all.text.generate({ ...params, width: side, height: side }),
      () => all.image.generate({ ...params, image: picture }),
      () => all.mask.generate({ ...params, image: picture, maskImage: mask }),
    ]
    // Encodes the prompt and the picture.
    for (const call of calls) await call()
    steps.length = 0
    await Promise.all(await startTogether(pipe.runtime.batcher, calls))
    // Two rows of each.
    expect(Math.max(...steps.map(({ rows }) => rows))).toBe(6)
  })
})

describe('pictures of one call', () => {
  it('are those that their own seeds give alone', async () => {
    const { seed, ...rest } = boat
    for (const generate of [
      (params: GenerateParams) => img2img.generate({ ...params, image: picture }),
      (params: GenerateParams) => inpaint.generate({ ...params, image: picture, maskImage: mask }),
    ]) {
      const together = await generate({ ...rest, numImagesPerPrompt: 3, generator: imageGenerators(seed, 3) })
      const alone: Uint8Array[] = []
      for (let index = 0; index < 3; index++) alone.push(...pixels(await generate({ ...rest, seed: seed + index })))
      expect(pixels(together)).toEqual(alone)
    }
  })

  it('start from several pictures in turn, each with a mask of its own', async () => {
    const { seed, ...rest } = boat
    const other = { ...picture, data: picture.data.map((value) => 255 - value) }
    const otherMask = { ...mask, data: mask.data.map((value) => 255 - value) }
    const together = await inpaint.generate({
      ...rest,
      numImagesPerPrompt: 2,
      generator: imageGenerators(seed, 2),
      image: [picture, other],
      maskImage: [mask, otherMask],
    })
    const first = await inpaint.generate({ ...boat, image: picture, maskImage: mask })
    const second = await inpaint.generate({ ...boat, seed: seed + 1, image: other, maskImage: otherMask })
    expect(pixels(together)).toEqual([...pixels(first), ...pixels(second)])
  })

  it('may start from a tensor, or from latents, which are not encoded', async () => {
    const whole = pixels(await img2img.generate({ ...boat, image: picture }))
    expect(pixels(await img2img.generate({ ...boat, image: toTensor(picture) }))).toEqual(whole)
    const masked = pixels(await inpaint.generate({ ...boat, image: picture, maskImage: mask }))
    const maskTensor = new Tensor(
      Float32Array.from(mask.data, (value) => value / 255),
      [1, 1, side, side],
    )
    expect(pixels(await inpaint.generate({ ...boat, image: picture, maskImage: maskTensor }))).toEqual(masked)

    const image = randn([1, 16, side / 8, side / 8], new Generator(3))
    const { encodeMs } = pipe.engineStats()
    const { images } = await img2img.generate({ ...boat, image, strength: 0.2 })
    expect(images[0]).toMatchObject({ width: side, height: side })
    // The prompts are known by now, so nothing was encoded.
    expect(pipe.engineStats().encodeMs).toBe(encodeMs)
  })
})

describe('a picture that comes again', () => {
  it('is encoded once, even for calls that come while it is being encoded, and each call draws its own noise from it', async () => {
    const image = { ...picture, data: picture.data.map((value) => value ^ 85) }
    const { pictureCache: before } = pipe.engineStats()
    const seeds = [1, 2, 3]
    const first = await Promise.all(seeds.map((seed) => img2img.generate({ ...boat, seed, image })))
    const again = await Promise.all(seeds.map((seed) => img2img.generate({ ...boat, seed, image: { ...image, data: image.data.slice() } })))
    const { pictureCache: after } = pipe.engineStats()
    expect([after.misses - before.misses, after.hits - before.hits, after.entries - before.entries]).toEqual([1, 5, 1])
    expect(again.map(pixels)).toEqual(first.map(pixels))
    expect(pixels(first[0] as GenerateResult)).not.toEqual(pixels(first[1] as GenerateResult))
    // The same bytes as another shape, and one pixel changed, are other pictures.
    const wide = { data: image.data, width: side * 2, height: side / 2 }
    const changed = { ...image, data: image.data.with(7, (image.data[7] as number) ^ 1) }
    for (const other of [wide, changed]) await img2img.generate({ ...boat, image: other })
    expect(pipe.engineStats().pictureCache.misses - after.misses).toBe(2)
  })

  it('makes the same picture where nothing is kept', async () => {
    const kept = pixels(await img2img.generate({ ...boat, image: picture }))
    const forgetful = await StableDiffusion3Img2ImgPipeline.fromPretrained(model, { device: 'cpu', batching: { pictureCacheBytes: 0 } })
    try {
      for (let i = 0; i < 2; i++) expect(pixels(await forgetful.generate({ ...boat, image: picture }))).toEqual(kept)
      expect(forgetful.engineStats().pictureCache).toMatchObject({ hits: 0, misses: 2, entries: 0 })
    } finally {
      await forgetful.close()
    }
  })
})

describe('strength', () => {
  it.each([
    [0.6, 3],
    [1, 5],
    [0.01, 1],
    [1e-300, 1],
    [undefined, 3],
  ])('%s of five steps runs %i of them, counted from 0', async (strength, count) => {
    const seen: number[] = []
    const callbackOnStepEnd: CallbackOnStepEnd = ({ numTimesteps }, step) => {
      expect(numTimesteps).toBe(count)
      seen.push(step)
    }
    await img2img.generate({ ...boat, image: picture, strength, callbackOnStepEnd })
    expect(seen).toEqual([...Array(count).keys()])
  })

  it('shortens a schedule of given sigmas too', async () => {
    let count = 0
    const sigmas = [1, 0.8, 0.6, 0.4, 0.2]
    await img2img.generate({ ...boat, image: picture, sigmas, strength: 0.4, callbackOnStepEnd: () => void count++ })
    expect(count).toBe(2)
  })
})

it('what is not painted keeps the latents of the picture, bit for bit', async () => {
  const painted = await latentsOf(inpaint.generate({ ...boat, image: picture, maskImage: mask, outputType: 'latent' }))
  const black = grey(() => 0)
  const kept = await latentsOf(inpaint.generate({ ...boat, image: picture, maskImage: black, outputType: 'latent' }))
  const columns = side / 8
  const isSame = Array.from(painted.data, (value, index) => [index % columns < columns / 2, Object.is(value, kept.data[index])])
  expect(isSame.filter(([left]) => left).every(([, same]) => same)).toBe(true)
  expect(isSame.filter(([left]) => !left).some(([, same]) => same)).toBe(false)
})

describe('a call that was interrupted', () => {
  const stochastic = { scheduler: { stochasticSampling: true, shift: 3 } }
  it.each([
    ['from a picture', false, {}],
    ['inside a mask', true, {}],
    ['from a picture, with noise at every step', false, stochastic],
    ['inside a mask, with noise at every step', true, stochastic],
  ])('%s goes on at any step to the same bytes', async (_, isMasked, { scheduler }: Partial<typeof stochastic>) => {
    const view = isMasked ? inpaint.cloneForRequest() : img2img.cloneForRequest()
    if (scheduler !== undefined) view.scheduler = new FlowMatchEulerDiscreteScheduler(scheduler)
    const input = { prompt: boat.prompt, numInferenceSteps: 5, image: picture, ...(isMasked ? { maskImage: mask } : {}) } as InpaintParams
    const generator = () => imageGenerators(boat.seed, 2)
    const points: ResumePoint[] = []
    const own = generator()
    const whole = await view.generate({
      ...input,
      numImagesPerPrompt: 2,
      generator: own,
      callbackOnStepEnd: (__, step, ___, { latents }) =>
        void points.push({ step: step + 1, latents: latents as Tensor, generatorState: own.map((one) => one.getState()) }),
    })
    expect(points).toHaveLength(3)
    for (const { generatorState, ...point } of points) {
      const resume = scheduler === undefined ? point : { ...point, generatorState }
      const again = await view.generate({ ...input, numImagesPerPrompt: 2, generator: generator(), resume })
      expect(pixels(again)).toEqual(pixels(whole))
    }
  })

  it('rejects at once when it is aborted while its picture waits for the device', async () => {
    // The prompt is known by then, and no call has encoded the other picture before.
    await img2img.generate({ ...boat, image: picture })
    const image = { ...picture, data: picture.data.map((value) => value ^ 51) }
    const { misses } = pipe.engineStats().pictureCache
    const { promise: free, resolve: release } = Promise.withResolvers<void>()
    const holding = pipe.runtime.decode(1, () => free)
    const abort = new AbortController()
    const call = img2img.generate({ ...boat, image, signal: abort.signal })
    try {
      await expect.poll(() => pipe.engineStats().pictureCache.misses).toBe(misses + 1)
      abort.abort(new Error('enough'))
      await expect(call).rejects.toThrow('enough')
      expect(pipe.engineStats().memory).toMatchObject({ admitted: 0, waiting: 0 })
    } finally {
      release()
      await holding
    }
  })
})

describe('what cannot be used', () => {
  const zeros = (...dims: number[]) => new Tensor(new Float32Array(dims.reduce((a, b) => a * b)), dims)
  const small = { data: new Uint8Array(32 * 32 * 3), width: 32, height: 32 }
  const refused: [params: Record<string, unknown>, message: string][] = [
    [{ image: undefined }, 'Expected image to be a picture, a list of them or a Tensor, got nothing'],
    [{ image: [] }, 'Expected image to be a picture, a list of them or a Tensor, got nothing'],
    [{ image: 'boat.png' }, 'Expected image to be { data, width, height } of 8-bit pixels, got "boat.png"'],
    [{ image: { ...small, width: 48 } }, 'Expected image to be 4608 bytes for 48x32 pixels, got 3072'],
    [{ image: { ...small, data: [] } }, 'Expected image to be { data, width, height } of 8-bit pixels, got Object'],
    [
      { image: [small, { data: new Uint8Array(16 * 16 * 3), width: 16, height: 16 }] },
      'Expected image to be pictures of one size, 32x32, got 16x16',
    ],
    [{ image: small, width: 64 }, "Expected image to be of the call's 64x32 pixels, got 32x32"],
    [{ image: { data: new Uint8Array(40 * 32 * 3), width: 40, height: 32 } }, 'Expected width to be divisible by 16, got 40'],
    [{ image: [small, small] }, 'Expected image to be one, or a number that divides the 1 pictures of the call, got 2'],
    [{ image: zeros(1, 4, 32, 32) }, 'Expected image to be of dims [pictures, 3, height, width], got [1, 4, 32, 32]'],
    [{ image: new Tensor(new Float32Array(3072).fill(-1), [1, 3, 32, 32]) }, 'Expected image to be of values from 0 to 1, got -1'],
    [{ strength: 0 }, 'Expected strength to be a number above 0, up to 1, got 0'],
    [{ strength: 1.1 }, 'Expected strength to be a number above 0, up to 1, got 1.1'],
    [{ strength: Number.NaN }, 'Expected strength to be a number above 0, up to 1, got NaN'],
    [{ strength: '0.5' }, 'Expected strength to be a number above 0, up to 1, got "0.5"'],
    [{ maskImage: undefined }, 'Expected maskImage to be a mask, got nothing'],
    [{ maskImage: small }, 'Expected maskImage to be 1024 bytes for 32x32 pixels, got 3072'],
    [
      { maskImage: { data: new Uint8Array(256), width: 16, height: 16 } },
      "Expected maskImage to be of the picture's 32x32 pixels, got 16x16",
    ],
    [{ maskImage: zeros(1, 3, 32, 32) }, 'Expected maskImage to be of dims [pictures, 1, height, width], got [1, 3, 32, 32]'],
    [{ paddingMaskCrop: 8 }, 'Expected paddingMaskCrop to be a known parameter'],
    [{ prompt: undefined }, 'Expected prompt to be given, or promptEmbeds, got neither'],
  ]
  it.each(refused.map(([params, message]) => ({ params, message })))('is refused by name: $message', async ({ params, message }) => {
    const maskImage = { data: new Uint8Array(32 * 32), width: 32, height: 32 }
    const call = inpaint.generate({ prompt: 'a', image: small, maskImage, ...params })
    await expect(call).rejects.toThrow(message)
    await expect(call).rejects.toBeInstanceOf(GenerateParamsError)
  })

  it('is a picture for text to image, a mask without inpainting, and pixels for a model without an encoder', async () => {
    await expect(pipe.generate({ ...boat, image: picture } as GenerateParams)).rejects.toThrow('Expected image to be a known parameter')
    const masked = { ...boat, image: picture, maskImage: mask } as Img2ImgParams
    await expect(img2img.generate(masked)).rejects.toThrow('Expected maskImage to be a known parameter')
    await expect(img2img.generate(null as never)).rejects.toThrow('Expected params to be an object with a prompt, got null')
    const blind = img2img.cloneForRequest()
    blind.vae = Object.assign(Object.create(pipe.vae) as typeof pipe.vae, { encoder: undefined })
    await expect(blind.generate({ ...boat, image: picture })).rejects.toThrow(
      'Expected image to be latents, as the model has no VAE encoder',
    )
    const latents = randn([1, 16, 8, 8], new Generator(1))
    expect((await blind.generate({ ...boat, image: latents })).images).toHaveLength(1)
  })
})
