import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Generator, randn } from '../tensor/random-normal.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const model = fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url))
const folder = fileURLToPath(new URL('../../test/golden/pipeline/', import.meta.url))

/** What Python's ORTStableDiffusion3Pipeline made of the same folder with onnxruntime 1.30. */
interface Golden {
  name: string
  seed: number
  call: Record<string, number | string | number[]> & { latents_seed?: number; width: number; height: number }
  step_sha256: string[]
  final_latents_shape: number[]
  final_latents: string
  image_sha256: string[]
}
const cases = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .map((name) => JSON.parse(readFileSync(folder + name, 'utf8')) as Golden)

/**
 * What the graphs alone give where the goldens were seen exact: hashes of one encoding, one step and one decoding, with none of our own
 * arithmetic in them. Another CPU's kernels round differently.
 */
const GOLDEN_KERNELS = '218f8ad77806954adaf9f47cbfa9f88f3a9d602ffb7a94cca4d3099f4d0cb118'

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
  return sha256(Buffer.from([...encoded, velocity, pixels].map(({ data }) => sha256(data)).join()))
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

describe('equal to diffusers', () => {
  let pipe: StableDiffusion3Pipeline
  const exact: string[] = []
  const close: string[] = []
  let mustBeExact = false
  beforeAll(async () => {
    pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
    const kernels = await hashKernels(pipe)
    mustBeExact = kernels === GOLDEN_KERNELS
    if (!mustBeExact) process.stdout.write(`golden pictures: not the kernels they were made with (${kernels}), so close is enough\n`)
  })
  afterAll(async () => {
    await pipe.close()
    process.stdout.write(
      `golden pictures: ${exact.length} exact, ${close.length} within one level${close.length > 0 ? `: ${close.join(', ')}` : ''}\n`,
    )
  })

  it.each(cases)('$name', async (golden) => {
    const steps: string[] = []
    let last: Tensor | undefined
    const { images, seed } = await pipe.generate({
      ...toParams(golden),
      callbackOnStepEnd: (_, __, ___, { latents }) => {
        last = latents
        steps.push(sha256(latents!.data))
      },
    })
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
    for (const [index, image] of images.entries()) {
      const png = `${folder}${golden.name}${images.length > 1 ? `-${index}` : ''}.png`
      const pixels = await sharp(png).removeAlpha().raw().toBuffer()
      expect(largestDifference(image.data, pixels)).toBeLessThanOrEqual(same ? 0 : 1)
    }
  })
})

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let largest = 0
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] as number) - (b[i] as number)))
  return largest
}
