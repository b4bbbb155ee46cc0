/** Damaged weights: the error of a call in which a part of the model computes NaN or infinity. */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import { findWeights, readCheckpoint } from '../graphs/checkpoint.ts'
import { isFiniteTensor, NotFiniteError } from '../models/not-finite-error.ts'
import { Tensor } from '../tensor/tensor.ts'
import { StableDiffusion3Img2ImgPipeline } from './img2img-pipeline.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const call = { prompt: 'a red boat', width: 32, height: 32, numInferenceSteps: 3, guidanceScale: 3, seed: 5 }
/** In float16, as the model is stored. */
const [nan, infinity] = [0x7e00, 0x7c00]

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-damaged-'))
  await cp(testModel('sd3-medium-kind'), folder, { recursive: true })
})
afterEach(() => rm(folder, { recursive: true }))

/** Writes one wrong value into a tensor of a part and returns the path of its file. */
async function damage(part: string, name: string, bits: number): Promise<string> {
  const weights = findWeights(join(folder, part))!
  const tensor = (await readCheckpoint(weights)).tensors.get(name)!
  expect(tensor.dtype).toBe('F16')
  const bytes = await readFile(tensor.file)
  bytes.writeUInt16LE(bits, tensor.offset)
  await writeFile(tensor.file, bytes)
  return weights
}

/** The error of a call, and the number of steps that it carried out. */
async function fail(lorasDir?: string): Promise<{ error: unknown; steps: number }> {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', ...(lorasDir === undefined ? {} : { lorasDir }) })
  let steps = 0
  try {
    const loras = lorasDir === undefined ? undefined : [{ id: 'broken', scale: 1 }]
    await pipe.generate({
      ...call,
      loras,
      callbackOnStepEnd: () => {
        steps++
      },
    })
    return { error: undefined, steps }
  } catch (error) {
    return { error, steps }
  } finally {
    await pipe.close()
  }
}
const sentence = (part: string, file: string): string =>
  `Expected ${part} to compute finite numbers, got NaN or infinity: the weights in ${file} are damaged, or they need a higher precision`

describe('a value that is not finite is an error that names the part and its file', () => {
  it.each<[string, string, string, number, number]>([
    ['a CLIP text encoder', 'text_encoder', 'text_model.encoder.layers.0.mlp.fc1.weight', nan, 0],
    ['a CLIP text encoder', 'text_encoder_2', 'text_projection.weight', infinity, 0],
    ['the T5 text encoder', 'text_encoder_3', 'encoder.final_layer_norm.weight', infinity, 0],
    // The call fails at its first step, not after its last.
    ['the transformer', 'transformer', 'transformer_blocks.1.attn.to_v.weight', nan, 0],
    ['the transformer', 'transformer', 'proj_out.bias', infinity, 0],
    ["the VAE's decoder", 'vae', 'decoder.conv_in.weight', nan, 3],
    // Unchecked, this one would make a picture of one colour.
    ["the VAE's decoder", 'vae', 'decoder.conv_out.bias', infinity, 3],
  ])('from %s (%s/%s)', async (part, name, tensor, bits, steps) => {
    const file = await damage(name, tensor, bits)
    const failed = await fail()
    expect(failed.error).toBeInstanceOf(NotFiniteError)
    expect((failed.error as Error).message).toBe(sentence(part, file))
    expect(failed.steps).toBe(steps)
  })

  it('from the VAE’s encoder', async () => {
    const file = await damage('vae', 'encoder.conv_in.weight', nan)
    const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
    const image = { data: new Uint8Array(32 * 32 * 3), width: 32, height: 32 }
    const made = StableDiffusion3Img2ImgPipeline.fromPipe(pipe).generate({ ...call, image, strength: 0.7 })
    await expect(made).rejects.toThrow(sentence("the VAE's encoder", file))
    await pipe.close()
  })

  it('from the transformer at the last step, if latents were finite after the first and no longer are', async () => {
    const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
    // The callback puts in what an overflow leaves behind.
    const callbackOnStepEnd = (_: unknown, step: number, __: number, { latents }: { latents?: Tensor }) =>
      step === 1
        ? {
            latents: new Tensor(
              latents!.data.map(() => Infinity),
              latents!.dims,
            ),
          }
        : {}
    await expect(pipe.generate({ ...call, callbackOnStepEnd })).rejects.toThrow('Expected the transformer to compute finite numbers')
    await pipe.close()
  })

  it('from a LoRA, which the error names too', async () => {
    const lorasDir = join(folder, 'loras')
    await mkdir(lorasDir)
    const floats = (shape: number[], value: number) => ({
      dtype: 'F32',
      shape,
      data: new Uint8Array(new Float32Array(shape[0]! * shape[1]!).fill(value).buffer),
    })
    writeSafetensors(join(lorasDir, 'broken.safetensors'), {
      'transformer.transformer_blocks.0.attn.to_q.lora_A.weight': floats([4, 64], 1),
      'transformer.transformer_blocks.0.attn.to_q.lora_B.weight': floats([64, 4], NaN),
    })
    const { error } = await fail(lorasDir)
    expect((error as Error).message).toMatch(/^Expected the transformer with the LoRAs broken to compute finite numbers/)
  })
})

it('latents of the caller that are not finite are an error about the latents, not about the weights', async () => {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
  const latents = new Tensor(new Float32Array(16 * 4 * 4).fill(NaN), [1, 16, 4, 4])
  await expect(pipe.generate({ ...call, latents })).rejects.toThrow(
    'Expected latents or promptEmbeds to be finite numbers, got NaN or infinity',
  )
  await pipe.close()
})

it.each<[string, Tensor, boolean]>([
  ['the largest float32', new Tensor(Float32Array.of(3.4e38, -3.4e38), [2]), true],
  ['infinity', new Tensor(Float32Array.of(1, -Infinity), [2]), false],
  ['NaN', new Tensor(Float32Array.of(NaN, 1), [2]), false],
  ['the bits of the largest float16', new Tensor(Uint16Array.of(0x7bff, 0xfbff), [2], 'float16'), true],
  ['the bits of infinity', new Tensor(Uint16Array.of(0, 0xfc00), [2], 'float16'), false],
  ['the bits of NaN', new Tensor(Uint16Array.of(0x7e01, 0), [2], 'float16'), false],
  ['nothing', new Tensor(new Float32Array(0), [0]), true],
])('isFiniteTensor tells whether a tensor is finite: %s', (_, tensor, expected) => {
  expect(isFiniteTensor(tensor)).toBe(expected)
})
