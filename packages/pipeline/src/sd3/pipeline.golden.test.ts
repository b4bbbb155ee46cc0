import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Rgb8Image } from '../tensor/image-processor.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { GenerateParams } from './generate-params.ts'
import { StableDiffusion3Img2ImgPipeline } from './img2img-pipeline.ts'
import { StableDiffusion3InpaintPipeline } from './inpaint-pipeline.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const exported = fileURLToPath(new URL('../../test/models/tiny-scenes-onnx', import.meta.url))
/** The same weights in safetensors, which run in graphs of our own. */
const demo = fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url))
const folderOf = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}/`, import.meta.url))

/**
 * What Python's ORTStableDiffusion3Pipeline, …Img2ImgPipeline and …InpaintPipeline made of the same folder with onnxruntime 1.30. The
 * inpainted pictures were decoded with the shift of the latents, which diffusers omits there.
 */
interface Golden {
  name: string
  /** The name that its files begin with. */
  folder: string
  kind?: 'img2img' | 'inpaint'
  /** The files of the picture to start from and of the mask. */
  image?: string
  mask?: string
  seed: number
  call: Record<string, number | string | number[]> & { latents_seed?: number; width: number; height: number }
  step_sha256: string[]
  final_latents_shape: number[]
  final_latents: string
  image_sha256: string[]
}
const cases = ['pipeline', 'img2img'].flatMap((name) => {
  const folder = folderOf(name)
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
  return files.map((file): Golden => ({ ...(JSON.parse(readFileSync(folder + file, 'utf8')) as Golden), folder }))
})

/**
 * What the graphs alone give on a machine where the goldens are exact: a hash of one encoding of each kind, one step and one decoding,
 * without any arithmetic of our own. The kernels of another CPU round differently.
 */
const goldenKernels = '7295e64cca9e0cc19ed6c1a73ee3c830cb7629d9cbb7079cf6e83b0a2820d44a'

async function hashKernels(pipe: StableDiffusion3Pipeline): Promise<string> {
  const noise = (...dims: number[]) => randn(dims, new Generator(1))
  const ids = [Array.from({ length: 20 }, (_, token) => token)]
  const encoded = [
    (await pipe.textEncoder!.forward(ids)).hiddenStates,
    (await pipe.textEncoder2!.forward(ids)).pooled,
    await pipe.textEncoder3!.forward(ids),
  ]
  const row = {
    hiddenStates: noise(1, 16, 16, 16),
    encoderHiddenStates: noise(1, 40, 128),
    pooledProjections: noise(1, 128),
    timestep: 500,
  }
  const velocity = await pipe.runtime.batcher.forward([row, row])
  const pixels = await pipe.vae.decode(noise(1, 16, 16, 16))
  const { mean } = await pipe.vae.encode(noise(1, 3, 64, 64))
  return sha256(Buffer.from([...encoded, velocity, pixels, mean].map(({ data }) => sha256(data)).join()))
}

const toCamel = (name: string) => name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
const sha256 = (data: Uint8Array | Float32Array) =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex')

function toParams({ seed, call: { latents_seed, ...call } }: Golden) {
  const params = Object.fromEntries(Object.entries(call).map(([name, value]) => [toCamel(name), value]))
  const latents =
    latents_seed === undefined ? {} : { latents: randn([1, 16, call.height / 8, call.width / 8], new Generator(latents_seed)) }
  return { ...params, ...latents, seed }
}

const readPixels = async (file: string, channels: 1 | 3) => {
  const picture = channels === 1 ? sharp(file).toColourspace('b-w') : sharp(file).removeAlpha()
  const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true })
  expect(info.channels).toBe(channels)
  return { data, width: info.width, height: info.height }
}

async function openPipes(model: string) {
  const text = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
  return { text, img2img: StableDiffusion3Img2ImgPipeline.fromPipe(text), inpaint: StableDiffusion3InpaintPipeline.fromPipe(text) }
}
type Pipes = Awaited<ReturnType<typeof openPipes>>

async function generate({ text, img2img, inpaint }: Pipes, params: GenerateParams, { image, mask }: Golden) {
  if (image === undefined) return await text.generate(params)
  const picture = { ...params, image: await readPixels(folderOf('pipeline') + image, 3) }
  if (mask === undefined) return await img2img.generate(picture)
  return await inpaint.generate({ ...picture, maskImage: await readPixels(`${folderOf('img2img')}inputs/${mask}`, 1) })
}

/** The largest difference between the pictures and those of the golden, in levels. */
async function levelsApart(images: readonly Rgb8Image[], { folder, name }: Golden): Promise<number> {
  const apart = images.map(async (image, index) => {
    const png = `${folder}${name}${images.length > 1 ? `-${index}` : ''}.png`
    return largestDifference(image.data, await sharp(png).removeAlpha().raw().toBuffer())
  })
  return Math.max(...(await Promise.all(apart)))
}

describe('the pictures of diffusers are drawn exactly on the CPU they were made on, and within one level elsewhere', () => {
  let pipes: Pipes
  const exact: string[] = []
  const close: string[] = []
  let mustBeExact = false
  beforeAll(async () => {
    pipes = await openPipes(exported)
    const kernels = await hashKernels(pipes.text)
    mustBeExact = kernels === goldenKernels
    if (!mustBeExact) process.stdout.write(`golden pictures: not the kernels they were made with (${kernels}), so close is enough\n`)
  })
  afterAll(async () => {
    await pipes.text.close()
    process.stdout.write(
      `golden pictures: ${exact.length} exact, ${close.length} within one level${close.length > 0 ? `: ${close.join(', ')}` : ''}\n`,
    )
  })

  it.each(cases)('$name', async (golden) => {
    const steps: string[] = []
    let last: Tensor | undefined
    const params: GenerateParams = {
      ...toParams(golden),
      callbackOnStepEnd: (_, __, ___, { latents }) => {
        last = latents
        steps.push(sha256(latents!.data))
      },
    }
    const { images, seed } = await generate(pipes, params, golden)
    expect(seed).toBe(golden.seed)
    expect(steps).toHaveLength(golden.step_sha256.length)
    expect(last?.dims).toEqual(golden.final_latents_shape)
    expect(images.map(({ width, height }) => [width, height])).toEqual(
      golden.image_sha256.map(() => [golden.call.width, golden.call.height]),
    )

    const same = steps.join() === golden.step_sha256.join() && images.map(({ data }) => sha256(data)).join() === golden.image_sha256.join()
    ;(same ? exact : close).push(golden.name)
    expect(same).toBe(same || mustBeExact)
    // Another CPU's kernels may round differently; the pictures still agree within one level.
    const expected = new Float32Array(Uint8Array.from(Buffer.from(golden.final_latents, 'base64')).buffer)
    expect(largestDifference(last!.data, expected)).toBeLessThan(same ? 1e-12 : 1e-3)
    expect(await levelsApart(images, golden)).toBeLessThanOrEqual(same ? 0 : 1)
  })
})

describe('the pictures of diffusers are drawn within one level on graphs of our own', () => {
  let pipes: Pipes
  beforeAll(async () => {
    pipes = await openPipes(demo)
  })
  afterAll(() => pipes.text.close())

  it.each(cases.filter(({ kind }) => kind !== undefined))('$name', async (golden) => {
    const { images } = await generate(pipes, toParams(golden), golden)
    expect(await levelsApart(images, golden)).toBeLessThanOrEqual(1)
  })
})

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let largest = 0
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] as number) - (b[i] as number)))
  return largest
}
