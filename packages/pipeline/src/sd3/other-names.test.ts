/** Weights in the names, layouts and types that tools other than diffusers write. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { messageOfLoading } from '../../test/message-of-loading.ts'
import { testModel } from '../../test/open-graph.ts'
import { float8Values, fromFloats } from '../../test/write-float8.ts'
import type { Float8 } from '../../test/write-float8.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import type { WrittenTensor } from '../../test/write-safetensors.ts'
import { readTensors, toLdm, toStability, unproject } from '../../test/write-single-file.ts'
import type { Tensors } from '../../test/write-single-file.ts'
import { sincosPositions } from '../graphs/sincos-positions.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'

const kind = 'sd35-medium-kind'
const call = { prompt: 'a red boat', width: 32, height: 48, numInferenceSteps: 2, guidanceScale: 3, seed: 5 }

let root: string
/** A copy of the model, to be changed. */
let folder: string
let plain: Promise<string> | undefined
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'easel-names-'))
  folder = join(root, 'model')
  await cp(testModel(kind), folder, { recursive: true })
})
afterEach(() => rm(root, { recursive: true }))
afterAll(() => (plain = undefined))

async function draw(model: string, options: FromPretrainedOptions = {}): Promise<string> {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...options })
  const { images } = await pipe.generate(call)
  await pipe.close()
  return createHash('sha256').update(images[0]!.data).digest('hex')
}
/** What the model draws as it is. */
const drawPlain = (): Promise<string> => (plain ??= draw(testModel(kind)))

const part = (name: string): Promise<Tensors> => readTensors(join(testModel(kind), name))
const prefixed = (prefix: string, tensors: Tensors): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [prefix + name, tensor]))
function write(name: string, tensors: Tensors): string {
  const file = join(root, name)
  writeSafetensors(file, tensors)
  return file
}
/** Replaces the weights of a part in the copied folder. */
const rewrite = (name: string, tensors: Tensors): string =>
  write(join('model', name, `${name.startsWith('text') ? 'model' : 'diffusion_pytorch_model'}.safetensors`), tensors)

describe('a file of only a transformer draws with the other parts from a folder', () => {
  it.each<[string, string, (tensors: Tensors) => Tensors]>([
    ['without a prefix, as Stability and ComfyUI write it', '', toStability],
    ['under model.diffusion_model., as a checkpoint has it', 'model.diffusion_model.', toStability],
    ['under diffusion_model.', 'diffusion_model.', toStability],
    ['under transformer., as trainers write it', 'transformer.', (tensors) => tensors],
    ['under transformer. with the names of Stability', 'transformer.', toStability],
    ['under the names of diffusers without a prefix', '', (tensors) => tensors],
    ['under diffusion_model. with the names of diffusers', 'diffusion_model.', (tensors) => tensors],
  ])('%s', async (_, prefix, rename) => {
    const file = write('merged.safetensors', prefixed(prefix, rename(await part('transformer'))))
    // So that the folder's own transformer cannot be the one that draws.
    await rm(join(folder, 'transformer', 'diffusion_pytorch_model.safetensors'))
    expect(await draw(file, { modelParts: folder })).toBe(await drawPlain())
  })
})

it('a file with all parts under the names of their folders draws what the folder draws', async () => {
  const names = ['transformer', 'vae', 'text_encoder', 'text_encoder_2'] as const
  const all = await Promise.all(names.map(async (name) => prefixed(`${name}.`, await part(name))))
  const file = write('all.safetensors', Object.assign({}, ...all) as Tensors)
  for (const name of names) await rewriteWithZeros(name)
  expect(await draw(file, { modelParts: folder })).toBe(await drawPlain())
})

async function rewriteWithZeros(name: string): Promise<void> {
  const zeros = Object.entries(await part(name)).map(([key, tensor]) => [key, { ...tensor, data: new Uint8Array(tensor.data.length) }])
  rewrite(name, Object.fromEntries(zeros) as Tensors)
}

it('parts of a folder may have the names of Stability', async () => {
  rewrite('transformer', toStability(await part('transformer')))
  rewrite('vae', toLdm(await part('vae')))
  expect(await draw(folder)).toBe(await drawPlain())
})

it('a part of a folder may be a file that holds several', async () => {
  const all = {
    ...prefixed('model.diffusion_model.', toStability(await part('transformer'))),
    ...prefixed('first_stage_model.', toLdm(await part('vae'))),
  }
  rewrite('transformer', all)
  rewrite('vae', all)
  expect(await draw(folder)).toBe(await drawPlain())
})

it('the projection of CLIP-L in a file of Stability is left out, as diffusers and ComfyUI do', async () => {
  const { 'text_projection.weight': projection, ...clip } = await part('text_encoder')
  await unproject(folder)
  const transformer = prefixed('model.diffusion_model.', toStability(await part('transformer')))
  const expected = await draw(folder)
  expect(expected).not.toBe(await drawPlain())
  for (const own of [clip, { ...clip, 'text_projection.weight': projection! }]) {
    const file = write('clips.safetensors', { ...transformer, ...prefixed('text_encoders.clip_l.transformer.', own) })
    expect(await draw(file, { modelParts: folder })).toBe(expected)
  }
  const config = join(folder, 'text_encoder', 'config.json')
  await writeFile(config, JSON.stringify({ ...(JSON.parse(await readFile(config, 'utf8')) as object), projection_dim: 48 }))
  expect(await messageOfLoading(join(root, 'clips.safetensors'), { modelParts: folder })).toMatch(
    /clips\.safetensors: expected projection_dim of its config\.json to be 32, its hidden_size, got 48/,
  )
})

it('CLIP-L of a folder may come without its projection, as the file clip_l.safetensors does; CLIP-G may not', async () => {
  const { 'text_projection.weight': _, ...clip } = await part('text_encoder')
  await unproject(folder)
  const expected = await draw(folder)
  rewrite('text_encoder', clip)
  expect(await draw(folder)).toBe(expected)
  const { 'text_projection.weight': __, ...clipG } = await part('text_encoder_2')
  const file = rewrite('text_encoder_2', clipG)
  expect(await messageOfLoading(folder)).toContain(`${file}: expected tensor text_projection.weight to be `)
})

it('weights in a part’s folder under another file name are not read, and the error says which names are', async () => {
  await rename(join(folder, 'text_encoder', 'model.safetensors'), join(folder, 'text_encoder', 'clip_l.safetensors'))
  expect(await messageOfLoading(folder)).toMatch(
    /got .*clip_l\.safetensors.*: weights must be named model\.safetensors or diffusion_pytorch_model\.safetensors$/,
  )
})

it('positions that a file does not hold are computed as diffusers would', async () => {
  const transformer = await part('transformer')
  const name = 'pos_embed.pos_embed'
  const [, places, dim] = transformer[name]!.shape as [number, number, number]
  const side = Math.sqrt(places)
  const config = JSON.parse(await readFile(join(folder, 'transformer', 'config.json'), 'utf8')) as {
    sample_size: number
    patch_size: number
  }
  const axis = sincosPositions(side, dim / 2, config.sample_size / config.patch_size)
  const table = new Float32Array(places * dim)
  for (let place = 0; place < places; place++) {
    const [row, column] = [Math.floor(place / side), place % side]
    table.set(axis.subarray((column * dim) / 2, ((column + 1) * dim) / 2), place * dim)
    table.set(axis.subarray((row * dim) / 2, ((row + 1) * dim) / 2), place * dim + dim / 2)
  }
  rewrite('transformer', { ...transformer, [name]: fromFloats([1, places, dim], table) })
  const [packed, mapped] = [await draw(folder), await draw(folder, { weights: 'mapped' })]
  const { [name]: _, ...without } = transformer
  rewrite('transformer', without)
  expect(await draw(folder)).toBe(packed)
  expect(await draw(folder, { weights: 'mapped' })).toBe(mapped)
  const file = write('merged.safetensors', prefixed('model.diffusion_model.', toStability(without)))
  expect(await draw(file, { modelParts: folder })).toBe(packed)
})

it('a T5 with two tables of embeddings uses its encoder’s own, as transformers 5 does', async () => {
  const model = testModel('sd3-medium-kind')
  await cp(model, folder, { recursive: true })
  const { 'shared.weight': shared, 'encoder.embed_tokens.weight': _, ...rest } = await readTensors(join(model, 'text_encoder_3'))
  const own: WrittenTensor = { ...shared!, data: new Uint8Array(new Uint16Array(Uint8Array.from(shared!.data).buffer).reverse().buffer) }
  rewrite('text_encoder_3', { ...rest, 'shared.weight': own })
  const expected = await draw(folder)
  expect(expected).not.toBe(await draw(model))
  rewrite('text_encoder_3', { ...rest, 'shared.weight': shared!, 'encoder.embed_tokens.weight': own })
  expect(await draw(folder)).toBe(expected)
  rewrite('text_encoder_3', { ...rest, 'encoder.embed_tokens.weight': own })
  expect(await draw(folder)).toBe(expected)
})

describe('float8', () => {
  const float8 = (type: Float8, { shape, data }: WrittenTensor): [stored: WrittenTensor, meant: WrittenTensor] => {
    // Any bytes will do, so long as they are small numbers: those of the tensor itself, its large exponents cut off.
    const bytes = Uint8Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => data[index % data.length]! & 0xa7)
    const values = float8Values(type)
    return [
      { dtype: type, shape, data: bytes },
      fromFloats(
        shape,
        Float32Array.from(bytes, (byte) => values[byte]!),
      ),
    ]
  }

  it.each<[Float8, 'packed' | 'mapped', string]>([
    ['F8_E4M3', 'packed', 'transformer'],
    ['F8_E5M2', 'packed', 'transformer'],
    ['F8_E4M3', 'mapped', 'transformer'],
    ['F8_E5M2', 'mapped', 'transformer'],
    ['F8_E4M3', 'packed', 'text_encoder'],
    ['F8_E4M3', 'mapped', 'text_encoder'],
    ['F8_E4M3', 'packed', 'vae'],
  ])('(%s, %s, in the %s) draws what the same numbers in float32 draw', async (type, weights, name) => {
    const pairs = Object.entries(await part(name)).map(([key, tensor]) => [key, float8(type, tensor)] as const)
    rewrite(name, Object.fromEntries(pairs.map(([key, [, meant]]) => [key, meant])))
    const expected = await draw(folder, { weights })
    expect(expected).not.toBe(await drawPlain())
    rewrite(name, Object.fromEntries(pairs.map(([key, [stored]]) => [key, stored])))
    expect(await draw(folder, { weights })).toBe(expected)
  })
})

describe('a file that is not a model', () => {
  const matrix = fromFloats([2, 2], new Float32Array(4))
  it.each<[string, string[], RegExp]>([
    ['a LoRA for ComfyUI', ['diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_down.weight'], /got a LoRA, which belongs in LORAS_DIR/],
    ['a LoRA beside a text encoder', ['transformer.a.lora_A.weight', 'text_encoder.b.weight'], /got a LoRA, which belongs in LORAS_DIR/],
    [
      'another kind of model with a VAE that would fit',
      ['model.diffusion_model.double_blocks.0.img_attn.qkv.weight', 'first_stage_model.decoder.conv_in.weight'],
      /got a transformer without x_embedder\.proj\.weight, so of another kind: model\.diffusion_model\.double_blocks/,
    ],
    [
      'CLIP-L',
      ['text_model.embeddings.token_embedding.weight'],
      /got a CLIP text encoder alone, which is read as text_encoder\/model\.safetensors of its model's folder/,
    ],
    [
      'T5',
      ['encoder.block.0.layer.0.SelfAttention.q.weight', 'shared.weight'],
      /got a T5 encoder alone, which is read as text_encoder_3\/model\.safetensors/,
    ],
    ['a VAE', ['decoder.conv_in.weight'], /got a VAE alone, which is read as vae\/diffusion_pytorch_model\.safetensors/],
    ['something unknown', ['double_blocks.0.weight'], /expected a transformer of Stable Diffusion 3, .*, got double_blocks\.0\.weight/],
    ['nothing', [], /got no tensor/],
  ])('but %s is refused with what it is', async (_, names, sentence) => {
    const file = write('file.safetensors', Object.fromEntries(names.map((name) => [name, matrix])))
    expect(await messageOfLoading(file, { modelParts: folder })).toMatch(sentence)
  })
})
