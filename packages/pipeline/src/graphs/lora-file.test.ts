import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import type { WrittenTensor } from '../../test/write-safetensors.ts'
import { loraGroup } from '../tensor/lora.ts'
import type { LoraLayers, LoraTarget } from '../tensor/lora.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import { findWeights, readCheckpoint } from './checkpoint.ts'
import { readLora } from './lora-file.ts'

const root = mkdtempSync(join(tmpdir(), 'easel-lora-'))
afterAll(() => rmSync(root, { recursive: true }))

const checkpoint = await readCheckpoint(findWeights(join(testModel('sd35-medium-kind'), 'transformer'))!)
const target: LoraTarget = { shapes: checkpoint.linears, shiftFirst: false }
const last = Math.max(...[...target.shapes.keys()].map((name) => Number(/^transformer_blocks\.(\d+)/.exec(name)?.[1] ?? 0)))
const shapeOf = (name: string) => target.shapes.get(name) as readonly [number, number]

const f32 = (shape: number[], data: Float32Array): WrittenTensor => ({ dtype: 'F32', shape, data: new Uint8Array(data.slice().buffer) })
const random = (seed: number, ...shape: number[]) => f32(shape, randn(shape, new Generator(seed)).data)
const scalar = (value: number) => f32([], Float32Array.of(value))

let files = 0
const read = async (tensors: Record<string, WrittenTensor>, metadata: Record<string, string> = {}, to = target): Promise<LoraLayers> => {
  const file = join(root, `${files++}.safetensors`)
  writeSafetensors(file, tensors, metadata)
  return readLora(file, to)
}

/** The matrices down and up for `module`, to be stored under any names. */
function pair(module: string, rank: number, seed = 1): [WrittenTensor, WrittenTensor] {
  const [to, from] = shapeOf(module)
  return [random(seed, rank, from), random(seed + 100, to, rank)]
}

/** The matrix that a layer adds, (to, from). */
function product(layers: LoraLayers, name: string): number[] {
  const { groups, down, up } = layers.get(name)!
  const [to, from] = shapeOf(name)
  const matrix = Array.from({ length: to * from }, () => 0)
  for (let rank = 0; rank < groups * loraGroup; rank++)
    for (let row = 0; row < to; row++)
      for (let column = 0; column < from; column++) {
        const at = Math.floor(rank / loraGroup) * from * loraGroup + column * loraGroup + (rank % loraGroup)
        matrix[row * from + column]! += down[at]! * up[rank * to + row]!
      }
  return matrix
}

const proj = 'transformer_blocks.0.attn.to_out.0'
const query = 'transformer_blocks.1.attn.to_q'

describe('readLora', () => {
  it.each([
    ['diffusers', `transformer.${proj}`, 'lora_A.weight', 'lora_B.weight'],
    ["diffusers' earlier", `transformer.${proj}`, 'lora.down.weight', 'lora.up.weight'],
    ["diffusers' earliest", 'transformer_blocks.0.attn.processor.to_out_lora', 'down.weight', 'up.weight'],
    ['peft', `base_model.model.${proj}`, 'lora_A.weight', 'lora_B.weight'],
    ['peft, with the name of the adapter', `base_model.model.${proj}`, 'lora_A.default.weight', 'lora_B.default.weight'],
    ["kohya's scripts", 'lora_unet_joint_blocks_0_x_block_attn_proj', 'lora_down.weight', 'lora_up.weight'],
    ["kohya's form of diffusers' names", 'lora_unet_transformer_blocks_0_attn_to_out_0', 'lora_down.weight', 'lora_up.weight'],
    ["Stability's names", 'diffusion_model.joint_blocks.0.x_block.attn.proj', 'lora_A.weight', 'lora_B.weight'],
    ['SimpleTuner', `transformer.base_model.model.${proj}`, 'lora_A.weight', 'lora_B.weight'],
    ['ai-toolkit', `diffusion_model.${proj}`, 'lora_A.weight', 'lora_B.weight'],
    ['LyCORIS', 'lycoris_transformer_blocks_0_attn_to_out_0', 'lora_down.weight', 'lora_up.weight'],
    ['OneTrainer', 'transformer.joint_blocks.0.x_block.attn.proj', 'lora_down.weight', 'lora_up.weight'],
    ["OneTrainer's form of diffusers' names", `lora_transformer.${proj}`, 'lora_down.weight', 'lora_up.weight'],
    ['OneTrainer, earlier', 'lora_transformer_transformer_blocks_0_attn_to_out_0', 'lora_down.weight', 'lora_up.weight'],
  ])('takes the names of %s', async (_, module, down, up) => {
    const [a, b] = pair(proj, 3)
    const expected = await read({ [`${proj}.lora_A.weight`]: a, [`${proj}.lora_B.weight`]: b })

    const found = await read({ [`${module}.${down}`]: a, [`${module}.${up}`]: b })
    expect([...found.keys()]).toEqual([proj])
    expect(product(found, proj)).toEqual(product(expected, proj))
  })

  it('divides a layer of three products among the three', async () => {
    const [to, from] = shapeOf(query)
    const up = random(2, to * 3, 4)
    const values = new Float32Array(up.data.buffer)
    const down = random(3, 4, from)
    const found = await read({
      'lora_unet_joint_blocks_1_x_block_attn_qkv.lora_down.weight': down,
      'lora_unet_joint_blocks_1_x_block_attn_qkv.lora_up.weight': up,
    })
    for (const [index, part] of ['to_q', 'to_k', 'to_v'].entries()) {
      const name = `transformer_blocks.1.attn.${part}`
      const own = f32([to, 4], values.slice(index * to * 4, (index + 1) * to * 4))
      const alone = await read({ [`${name}.lora_A.weight`]: down, [`${name}.lora_B.weight`]: own })
      expect(product(found, name)).toEqual(product(alone, name))
    }
  })

  it('takes the three products of an attention by their numbers, as OneTrainer writes them', async () => {
    for (const [stream, parts] of [
      ['x_block.attn', ['attn.to_q', 'attn.to_k', 'attn.to_v']],
      ['context_block.attn', ['attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj']],
      ['x_block.attn2', ['attn2.to_q', 'attn2.to_k', 'attn2.to_v']],
    ] as const)
      for (const [index, part] of parts.entries()) {
        const name = `transformer_blocks.1.${part}`
        const [down, up] = pair(name, 2, index)
        const module = `transformer.joint_blocks.1.${stream}.qkv.${index}`
        const found = await read({ [`${module}.lora_down.weight`]: down, [`${module}.lora_up.weight`]: up, [`${module}.alpha`]: scalar(2) })
        expect([...found.keys()]).toEqual([name])
        expect(product(found, name)).toEqual(product(await read({ [`${name}.lora_A.weight`]: down, [`${name}.lora_B.weight`]: up }), name))
      }
  })

  it('puts scale and shift of the last norms into the order of the checkpoint', async () => {
    const norm = `transformer_blocks.${last}.norm1_context.linear`
    const [a, b] = pair(norm, 2)
    const own = product(await read({ [`${norm}.lora_A.weight`]: a, [`${norm}.lora_B.weight`]: b }), norm)
    const half = own.length / 2
    const turned = [...own.slice(half), ...own.slice(0, half)]
    const stability = { [`joint_blocks.${last}.context_block.adaLN_modulation.1.lora_A.weight`]: a }
    stability[`joint_blocks.${last}.context_block.adaLN_modulation.1.lora_B.weight`] = b
    expect(product(await read(stability), norm)).toEqual(turned)
    expect(product(await read(stability, {}, { ...target, shiftFirst: true }), norm)).toEqual(own)
  })

  it('scales by alpha over the rank, wherever alpha is given', async () => {
    const [a, b] = pair(query, 4)
    const tensors = { [`transformer.${query}.lora_A.weight`]: a, [`transformer.${query}.lora_B.weight`]: b }
    const full = product(await read(tensors), query)
    const expected = (factor: number) => full.map((value) => expect.closeTo(value * factor, 4) as unknown)
    const half: WrittenTensor[] = [scalar(2), { dtype: 'I64', shape: [], data: new Uint8Array(BigInt64Array.of(2n).buffer) }]
    for (const alpha of half)
      expect(product(await read({ ...tensors, [`transformer.${query}.alpha`]: alpha }), query)).toEqual(expected(0.5))
    const said = (config: object) => ({ lora_adapter_metadata: JSON.stringify(config) })
    expect(product(await read(tensors, said({ 'transformer.lora_alpha': 8, 'transformer.r': 4 })), query)).toEqual(expected(2))
    const patterned = (patterns: object) => said({ 'transformer.lora_alpha': 8, 'transformer.alpha_pattern': patterns })
    const named = ['1.attn.to_q', query, `^${query}`, `^${query}$`, query.replaceAll('.', String.raw`\.`)]
    for (const pattern of named) expect(product(await read(tensors, patterned({ [pattern]: 1 })), query)).toEqual(expected(0.25))
    const unnamed = ['^attn.to_q', 'o_q', 'attn', query.replace('1', '2')]
    for (const pattern of unnamed) expect(product(await read(tensors, patterned({ [pattern]: 1 })), query)).toEqual(expected(2))
    for (const pattern of ['.*to_q', '(a+)+', '', '^'])
      await expect(read(tensors, patterned({ [pattern]: 1 }))).rejects.toThrow(/expected alpha_pattern to be names of layers .*, got "/)
    expect(product(await read(tensors, said({ 'transformer.use_rslora': true })), query)).toEqual(expected(2))
    const folder = mkdtempSync(join(root, 'peft-'))
    writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors)
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ lora_alpha: 12, r: 4 }))
    expect(product(await readLora(join(folder, 'adapter_model.safetensors'), target), query)).toEqual(expected(3))
  })

  it('reads half precision', async () => {
    const [to, from] = shapeOf(query)
    const filled = (dtype: string, bits: number, ...shape: number[]): WrittenTensor => {
      return { dtype, shape, data: new Uint8Array(new Uint16Array(shape.reduce((x, y) => x * y, 1)).fill(bits).buffer) }
    }
    // The bits of 1.5 and of -2.
    const tensors = {
      [`${query}.lora_A.weight`]: filled('BF16', 0x3fc0, 1, from),
      [`${query}.lora_B.weight`]: filled('F16', 0xc000, to, 1),
    }
    expect(new Set(product(await read(tensors), query))).toEqual(new Set([-3]))
  })

  const [a, b] = pair(query, 4)
  const good = { [`${query}.lora_A.weight`]: a, [`${query}.lora_B.weight`]: b }
  it.each<[string, Record<string, WrittenTensor>, string]>([
    ['no tensors', {}, 'expected a LoRA, got a file without tensors'],
    [
      'two matrices for one side under two names',
      { ...good, [`${query}.lora_down.weight`]: a },
      'lora_down.weight to be the only down of its module, got a second one',
    ],
    [
      'a LoRA of a text encoder',
      { ...good, 'text_encoder.text_model.layers.0.q_proj.lora_A.weight': a },
      'of text encoders is not supported',
    ],
    ["kohya's LoRA of a text encoder", { ...good, 'lora_te1_text_model_q_proj.lora_down.weight': a }, 'of text encoders is not supported'],
    [
      "OneTrainer's LoRA of a text encoder",
      { ...good, 'clip_l.text_model.q_proj.lora_down.weight': a },
      'of text encoders is not supported',
    ],
    ["OneTrainer's LoRA of T5", { ...good, 't5.encoder.block.0.q.lora_down.weight': a }, 'of text encoders is not supported'],
    ['a LoKr', { 'lycoris_transformer_blocks_0_attn_to_q.lokr_w1': a }, 'lokr_w1 to be lora_A'],
    ['a magnitude', { ...good, [`${query}.lora_magnitude_vector`]: scalar(1) }, `tensor ${query}.lora_magnitude_vector to be lora_A`],
    ['a LoHa', { [`${query}.hada_w1_a`]: a }, 'hada_w1_a to be lora_A'],
    ['a bias', { ...good, [`${query}.lora_B.bias`]: b }, 'lora_B.bias to be lora_A'],
    ['a layer of another model', { 'unet.mid_block.to_q.lora_A.weight': a, 'unet.mid_block.to_q.lora_B.weight': b }, 'no such layer'],
    ['one matrix', { [`${query}.lora_A.weight`]: a }, `module ${query} to be two matrices, down and up, got no up`],
    ['no matrix', { [`${query}.alpha`]: scalar(1) }, 'got no down'],
    ['ranks that differ', { ...good, [`${query}.lora_B.weight`]: pair(query, 5)[1] }, `up of ${query} to be`],
    ['another width', { ...good, [`${query}.lora_A.weight`]: random(1, 4, 7) }, `down of ${query} to be`],
    ['a convolution', { ...good, [`${query}.lora_A.weight`]: { ...a, shape: [...a.shape, 1, 1] } }, `down of ${query} to be`],
    [
      'rank 0',
      { [`${query}.lora_A.weight`]: { ...a, shape: [0, shapeOf(query)[1]], data: new Uint8Array() }, [`${query}.lora_B.weight`]: b },
      'to be [1,',
    ],
    ['integers', { ...good, [`${query}.lora_A.weight`]: { ...a, dtype: 'I32' } }, 'of I32'],
    ['an alpha of two values', { ...good, [`${query}.alpha`]: random(1, 2) }, `alpha of ${query} to be one value`],
    [
      'a layer twice',
      { ...good, [`transformer.${query}.lora_A.weight`]: a, [`transformer.${query}.lora_B.weight`]: b },
      'a second one for',
    ],
  ])('refuses %s', async (_, tensors, message) => {
    await expect(read(tensors)).rejects.toThrow(message)
  })

  it('refuses settings that are malformed or not supported', async () => {
    await expect(read(good, { lora_adapter_metadata: '[' })).rejects.toThrow('lora_adapter_metadata to be a JSON object')
    await expect(read(good, { lora_adapter_metadata: '{"lora_alpha":"x"}' })).rejects.toThrow("peft's settings")
    await expect(read(good, { lora_adapter_metadata: '{"use_dora":true}' })).rejects.toThrow('use_dora to be false')
  })
})
