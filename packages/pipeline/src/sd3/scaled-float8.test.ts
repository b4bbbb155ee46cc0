/** Weights in float8, plain or with a factor for each matrix, as ComfyUI and the tools around it store them, and quantised weights that are refused. */
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { messageOfLoading } from '../../test/message-of-loading.ts'
import { testModel } from '../../test/open-graph.ts'
import { rewritePart } from '../../test/rewrite-part.ts'
import { fromFloats, scaledNames, toPlainFloat8, toScaledFloat8 } from '../../test/write-float8.ts'
import type { Float8 } from '../../test/write-float8.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import type { WrittenTensor } from '../../test/write-safetensors.ts'
import { readTensors, toLdm, toStability } from '../../test/write-single-file.ts'
import type { Tensors } from '../../test/write-single-file.ts'
import { readCheckpoint } from '../graphs/checkpoint.ts'
import { operatorChoices } from '../graphs/operator-choices.ts'
import { buildT5EncoderGraph, t5EncoderGraphConfigSchema } from '../graphs/t5-encoder-graph.ts'
import { readModelJson } from '../models/model-file.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'

const kind = 'sd3-medium-kind'
const call = { prompt: 'a red boat', width: 32, height: 48, numInferenceSteps: 2, guidanceScale: 3, seed: 5 }
const parts = ['transformer', 'text_encoder', 'text_encoder_2', 'text_encoder_3'] as const
const ways = ['packed', 'mapped'] as const

let root: string
/** A copy of the model, to be changed. */
let folder: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'easel-float8-'))
  folder = join(root, 'model')
  await cp(testModel(kind), folder, { recursive: true })
})
afterEach(() => rm(root, { recursive: true }))
const read = new Map<string, Promise<Tensors>>()
afterAll(() => read.clear())
function part(name: string): Promise<Tensors> {
  const tensors = read.get(name) ?? readTensors(join(testModel(kind), name))
  read.set(name, tensors)
  return tensors
}

async function drawLatents(model: string, options: FromPretrainedOptions = {}): Promise<{ latents: Float32Array; pixels: Uint8Array }> {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...options })
  let latents: Float32Array | undefined
  const { images } = await pipe.generate({
    ...call,
    callbackOnStepEnd: (_, __, ___, values) => ((latents = values.latents!.data.slice() as Float32Array), {}),
  })
  await pipe.close()
  return { latents: latents!, pixels: images[0]!.data }
}
async function draw(model: string, options: FromPretrainedOptions = {}): Promise<string> {
  return createHash('sha256')
    .update((await drawLatents(model, options)).pixels)
    .digest('hex')
}

const rewrite = (name: string, tensors: Tensors): Promise<string> => rewritePart(join(folder, name), () => tensors)
const prefixed = (prefix: string, tensors: Tensors): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [prefix + name, tensor]))
const toPowerOfTwo = (scale: number): number => 2 ** Math.round(Math.log2(scale))
const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, value, at) => Math.max(most, Math.abs(value - b[at]!)), 0)

describe.each(ways)('scaled float8, %s weights', (weights) => {
  it.each<[keyof typeof scaledNames, Float8]>([
    ['scale_weight', 'F8_E4M3'],
    ['weight_scale', 'F8_E4M3'],
    ['scale_weight', 'F8_E5M2'],
  ])('(%s, %s) in the transformer and all text encoders draws exactly what the same numbers in float32 draw', async (names, type) => {
    const scaled = await Promise.all(parts.map(async (name) => toScaledFloat8(await part(name), scaledNames[names], type, toPowerOfTwo)))
    for (const [index, name] of parts.entries()) await rewrite(name, scaled[index]!.meant)
    const expected = await draw(folder, { weights })
    for (const [index, name] of parts.entries()) await rewrite(name, scaled[index]!.stored)
    expect(await draw(folder, { weights })).toBe(expected)
  })

  it('with factors that are not powers of two differs from the same numbers in float32 only by rounding', async () => {
    const scaled = await Promise.all(parts.map(async (name) => toScaledFloat8(await part(name))))
    for (const [index, name] of parts.entries()) await rewrite(name, scaled[index]!.meant)
    const expected = await drawLatents(folder, { weights })
    for (const [index, name] of parts.entries()) await rewrite(name, scaled[index]!.stored)
    const found = await drawLatents(folder, { weights })
    expect(largestDifference(found.latents, expected.latents)).toBeLessThan(2e-4)
    expect(largestDifference(found.pixels, expected.pixels)).toBeLessThanOrEqual(1)
  })

  it('may be in a single file with all parts in which only T5 has factors, as in sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors', async () => {
    const t5 = toScaledFloat8(await part('text_encoder_3'), scaledNames.scale_weight, 'F8_E4M3', toPowerOfTwo)
    const others = {
      ...prefixed('model.diffusion_model.', toStability(await part('transformer'))),
      ...prefixed('first_stage_model.', toLdm(await part('vae'))),
      ...prefixed('text_encoders.clip_l.transformer.', await part('text_encoder')),
      ...prefixed('text_encoders.clip_g.transformer.', await part('text_encoder_2')),
    }
    const file = join(root, 'sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors')
    const drawWith = (tensors: Tensors): Promise<string> => {
      writeSafetensors(file, { ...others, ...prefixed('text_encoders.t5xxl.transformer.', tensors) })
      return draw(file, { weights, modelParts: folder })
    }
    expect(await drawWith(t5.stored)).toBe(await drawWith(t5.meant))
  })

  it('may be in a transformer with the names of Stability, where the three products of an attention share a factor', async () => {
    const transformer = toScaledFloat8(toStability(await part('transformer')), scaledNames.weight_scale, 'F8_E4M3', toPowerOfTwo)
    const file = join(root, 'sd3.5_medium_fp8_scaled.safetensors')
    const drawWith = (prefix: string, tensors: Tensors): Promise<string> => {
      writeSafetensors(file, prefixed(prefix, tensors))
      return draw(file, { weights, modelParts: folder })
    }
    const expected = await drawWith('', transformer.meant)
    expect(await drawWith('', transformer.stored)).toBe(expected)
    expect(await drawWith('model.diffusion_model.', transformer.stored)).toBe(expected)
  })
})

it('a LoRA is added to scaled float8 as to the same numbers in float32, although its graph is mapped', async () => {
  const lorasDir = join(root, 'loras')
  await mkdir(lorasDir)
  const random = (seed: number, ...shape: number[]) => fromFloats(shape, randn(shape, new Generator(seed)).data)
  const tensors: Tensors = {}
  for (const name of ['attn.to_q', 'attn.add_v_proj', 'norm1.linear']) {
    const { shape } = (await part('transformer'))[`transformer_blocks.0.${name}.weight`]!
    tensors[`transformer.transformer_blocks.0.${name}.lora_A.weight`] = random(1, 4, shape[1]!)
    tensors[`transformer.transformer_blocks.0.${name}.lora_B.weight`] = random(2, shape[0]!, 4)
  }
  writeSafetensors(join(lorasDir, 'style.safetensors'), tensors)
  const drawStyled = async (scale: number): Promise<string> => {
    const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', lorasDir })
    const { images } = await pipe.generate({ ...call, loras: [{ id: 'style', scale }] })
    await pipe.close()
    return createHash('sha256').update(images[0]!.data).digest('hex')
  }
  const scaled = toScaledFloat8(await part('transformer'), scaledNames.scale_weight, 'F8_E4M3', toPowerOfTwo)
  await rewrite('transformer', scaled.meant)
  const expected = [await drawStyled(0.05), await drawStyled(0)]
  await rewrite('transformer', scaled.stored)
  expect([await drawStyled(0.05), await drawStyled(0)]).toEqual(expected)
  expect(expected[0]).not.toBe(expected[1])
})

it('scaled float8 draws in float16 what the same numbers in float32 draw, within the rounding of float16', async () => {
  const scaled = toScaledFloat8(await part('transformer'))
  await rewrite('transformer', scaled.meant)
  const expected = await drawLatents(folder, { dtype: 'float16' })
  await rewrite('transformer', scaled.stored)
  for (const weights of ways)
    expect(largestDifference((await drawLatents(folder, { dtype: 'float16', weights })).latents, expected.latents)).toBeLessThan(0.05)
})

describe('plain float8 in every tensor', () => {
  it.each(['transformer', 'text_encoder', 'text_encoder_3'])('of %s draws what the same numbers in float32 draw', async (name) => {
    const plain = toPlainFloat8(await part(name))
    await rewrite(name, plain.meant)
    const expected = await Promise.all(ways.map((weights) => draw(folder, { weights })))
    await rewrite(name, plain.stored)
    expect(await Promise.all(ways.map((weights) => draw(folder, { weights })))).toEqual(expected)
  })

  it('leaves tables as bytes and casts only what is taken from them', async () => {
    const file = await rewrite('text_encoder_3', toPlainFloat8(await part('text_encoder_3')).stored)
    const config = await readModelJson(join(folder, 'text_encoder_3', 'config.json'), t5EncoderGraphConfigSchema)
    for (const weights of ways) {
      const options = { operators: operatorChoices.cpu, computeType: 'float32', weights } as const
      const { nodes } = buildT5EncoderGraph(config, await readCheckpoint(file), options)
      const readers = nodes.filter(({ inputs }) => inputs.includes('shared.weight'))
      expect(readers.map(({ operator }) => operator)).toEqual(['Gather'])
    }
  })
})

const layer = 'transformer_blocks.1.ff.net.2'
const scalar = (...values: number[]): WrittenTensor => fromFloats(values.length === 1 ? [] : [values.length], Float32Array.from(values))

describe('scaled float8 is refused', () => {
  it.each<[string, (tensors: Tensors) => Tensors, RegExp]>([
    [
      'where a matrix has no factor',
      (tensors) => Object.fromEntries(Object.entries(tensors).filter(([name]) => name !== `${layer}.scale_weight`)),
      /tensor transformer_blocks\.1\.ff\.net\.2\.weight to be float8 with a factor \(scale_weight or weight_scale\), as .* says, got none$/,
    ],
    [
      'where a factor is several numbers',
      (tensors) => ({ ...tensors, [`${layer}.scale_weight`]: scalar(1, 2) }),
      /tensor transformer_blocks\.1\.ff\.net\.2\.scale_weight to be one number of F32, F16 or BF16, got \[2\] of F32$/,
    ],
    [
      'where a factor is not a float',
      (tensors) => ({ ...tensors, [`${layer}.scale_weight`]: { dtype: 'U8', shape: [1], data: new Uint8Array(1) } }),
      /scale_weight to be one number of F32, F16 or BF16, got \[1\] of U8$/,
    ],
    [
      'where a factor is NaN',
      (tensors) => ({ ...tensors, [`${layer}.scale_weight`]: scalar(NaN) }),
      /tensor transformer_blocks\.1\.ff\.net\.2\.scale_weight to be a finite number, got NaN$/,
    ],
    [
      'where a factor is infinite',
      (tensors) => ({ ...tensors, [`${layer}.scale_weight`]: scalar(-Infinity) }),
      /scale_weight to be a finite number, got -Infinity$/,
    ],
    [
      'where a weight that is not float8 has a factor',
      (tensors) => ({ ...tensors, [`${layer}.weight`]: { ...tensors['proj_out.weight']!, ...plainMatrix(tensors[`${layer}.weight`]!) } }),
      /scale_weight to be beside a float8 weight, the only kind that has a factor, got beside one of F32$/,
    ],
    [
      'where a weight has two factors',
      (tensors) => ({ ...tensors, [`${layer}.weight_scale`]: scalar(1) }),
      /tensor transformer_blocks\.1\.ff\.net\.2\.weight_scale to be the only factor of its weight, got a second one$/,
    ],
    [
      'where a factor has a factor of its own',
      (tensors) => ({ ...tensors, [`${layer}.weight_scale_2`]: scalar(1) }),
      /weight_scale_2 to be absent: a float8 weight has one factor, scale_weight or weight_scale, got there$/,
    ],
  ])('%s', async (_, change, sentence) => {
    const file = await rewrite('transformer', change(toScaledFloat8(await part('transformer')).stored))
    const message = await messageOfLoading(folder)
    expect(message).toMatch(sentence)
    expect(message).toContain(`${file}: expected `)
  })
})

function plainMatrix({ shape }: WrittenTensor): WrittenTensor {
  return fromFloats(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)))
}

it('a tensor that is missing beside scaled float8 is reported as missing, without a word about a tool', async () => {
  const { stored } = toScaledFloat8(await part('transformer'), scaledNames.weight_scale)
  await rewrite('transformer', Object.fromEntries(Object.entries(stored).filter(([name]) => name !== 'proj_out.bias')))
  expect(await messageOfLoading(folder)).toMatch(/tensor proj_out\.bias to be \[64\] of .*, got no such tensor$/)
})

it('a wrong factor in a part that is not loaded does no harm', async () => {
  const t5 = toScaledFloat8(await part('text_encoder_3')).stored
  await rewrite('text_encoder_3', { ...t5, 'encoder.block.0.layer.0.SelfAttention.q.scale_weight': scalar(NaN) })
  expect(await messageOfLoading(folder)).toMatch(/SelfAttention\.q\.scale_weight to be a finite number, got NaN/)
  expect(await messageOfLoading(folder, { components: { textEncoder3: null, tokenizer3: null } })).toBe('loaded')
})

describe('weights that are quantised in another way are refused with the name of the tool', () => {
  const name = 'transformer_blocks.0.attn.to_q.weight'
  const bytes = (dtype: string, ...shape: number[]): WrittenTensor => ({
    dtype,
    shape,
    data: new Uint8Array(shape.reduce((a, b) => a * b, dtype === 'F32' ? 4 : 1)),
  })
  const [to, from] = [64, 64]

  it.each<[string, Tensors, RegExp]>([
    [
      'NF4',
      {
        [name]: bytes('U8', (to * from) / 2, 1),
        [`${name}.absmax`]: bytes('F32', 64),
        [`${name}.quant_map`]: bytes('F32', 16),
        [`${name}.quant_state.bitsandbytes__nf4`]: bytes('U8', 80),
      },
      /to be \[64, 64\] of F32, .*, got \[2048, 1\] of U8: quantised by bitsandbytes in 4 bits, as .*bitsandbytes__nf4 shows$/,
    ],
    [
      'int8 of bitsandbytes',
      { [name]: bytes('I8', to, from), 'transformer_blocks.0.attn.to_q.SCB': bytes('F32', to) },
      /got \[64, 64\] of I8: quantised by bitsandbytes in 8 bits, as transformer_blocks\.0\.attn\.to_q\.SCB shows$/,
    ],
    [
      'int8 of ComfyUI',
      {
        [name]: bytes('I8', to, from),
        'transformer_blocks.0.attn.to_q.weight_scale': bytes('F32', to, 1),
        'transformer_blocks.0.attn.to_q.comfy_quant': bytes('U8', 27),
      },
      /got \[64, 64\] of I8: quantised by a tool for ComfyUI, as transformer_blocks\.0\.attn\.to_q\.\w+ shows$/,
    ],
    [
      'NVFP4 of ComfyUI',
      {
        [name]: bytes('U8', to, from / 2),
        'transformer_blocks.0.attn.to_q.weight_scale': bytes('F8_E4M3', to, 4),
        'transformer_blocks.0.attn.to_q.weight_scale_2': bytes('F32'),
      },
      /got \[64, 32\] of U8: quantised by a tool for ComfyUI, as .* shows$/,
    ],
    [
      'MXFP8 of ComfyUI',
      { [name]: bytes('F8_E4M3', to, from), 'transformer_blocks.0.attn.to_q.weight_scale': bytes('U8', to, 2) },
      /weight_scale to be one number of F32, F16 or BF16, got \[64, 2\] of U8$/,
    ],
    [
      'optimum-quanto',
      { [`${name}._data`]: bytes('I8', to, from), [`${name}._scale`]: bytes('F32', to, 1) },
      /to be \[64, 64\] of F32, .*, got no such tensor: quantised by optimum-quanto, as .*\.weight\._data shows$/,
    ],
    [
      'Nunchaku',
      {
        'transformer_blocks.0.attn.to_q.qweight': bytes('I8', to, from / 2),
        'transformer_blocks.0.attn.to_q.wscales': bytes('F32', 1, to),
        'transformer_blocks.0.attn.to_q.lora_down': bytes('F32', from, 8),
        'transformer_blocks.0.attn.to_q.lora_up': bytes('F32', to, 8),
      },
      /got no such tensor: quantised by Nunchaku, as transformer_blocks\.0\.attn\.to_q\.wscales shows$/,
    ],
  ])('%s, in a folder and in a single file', async (_, quantised, sentence) => {
    const { [name]: replaced, ...rest } = await part('transformer')
    expect(replaced!.shape).toEqual([to, from])
    const tensors = { ...rest, ...quantised }
    const file = await rewrite('transformer', tensors)
    expect(await messageOfLoading(folder)).toMatch(sentence)
    expect(await messageOfLoading(folder)).toContain(file)
    const single = join(root, 'single.safetensors')
    writeSafetensors(single, prefixed('transformer.', tensors))
    expect(await messageOfLoading(single, { modelParts: folder })).toMatch(sentence)
  })

  it('NF4 under the names of Stability, where three products of an attention are one', async () => {
    const transformer = toStability(await part('transformer'))
    const qkv = 'joint_blocks.2.x_block.attn.qkv.weight'
    const file = join(root, 'nf4.safetensors')
    const nf4 = {
      [qkv]: bytes('U8', 6144, 1),
      [`${qkv}.absmax`]: bytes('F32', 192),
      [`${qkv}.quant_state.bitsandbytes__nf4`]: bytes('U8', 80),
    }
    writeSafetensors(file, prefixed('model.diffusion_model.', { ...transformer, ...nf4 }))
    expect(await messageOfLoading(file, { modelParts: folder })).toMatch(
      /nf4\.safetensors: expected tensor transformer_blocks\.2\.attn\.to_q\.weight to be .*, got \[2048, 1\] of U8: quantised by bitsandbytes in 4 bits, as .*nf4 shows$/,
    )
  })

  it('GGUF, as a file, in a folder of files, and in a part’s folder', async () => {
    const files = join(root, 'files')
    await mkdir(files)
    for (const file of [join(files, 'sd3.5_medium-Q4_0.gguf'), join(folder, 'transformer', 'sd3.5_medium-Q4_0.gguf')])
      await writeFile(file, 'GGUF')
    const sentence = /it holds GGUF files, which Easel does not read/
    expect(await messageOfLoading(join(files, 'sd3.5_medium-Q4_0.gguf'))).toMatch(sentence)
    expect(await messageOfLoading(files)).toMatch(sentence)
    await rm(join(folder, 'transformer', 'diffusion_pytorch_model.safetensors'))
    expect(await messageOfLoading(folder)).toMatch(sentence)
  })
})
