/** Writes a diffusers folder as Stability would have saved it: one file, fused products, shift before scale, the decoder's blocks in reverse. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findWeights, readCheckpoint } from '../src/graphs/checkpoint.ts'
import { writeSafetensors } from './write-safetensors.ts'
import type { WrittenTensor } from './write-safetensors.ts'

export type Tensors = Record<string, WrittenTensor>

export async function writeSingleFile(model: string, file: string): Promise<void> {
  const all: Tensors = { 'an.unrelated.table': { dtype: 'F8_E4M3', shape: [3], data: new Uint8Array(3) } }
  const put = (prefix: string, tensors: Tensors) => {
    for (const [name, tensor] of Object.entries(tensors)) all[prefix + name] = tensor
  }
  put('model.diffusion_model.', toStability(await readTensors(join(model, 'transformer'))))
  put('first_stage_model.', toLdm(await readTensors(join(model, 'vae'))))
  put('text_encoders.clip_l.transformer.', await readTensors(join(model, 'text_encoder')))
  put('text_encoders.clip_g.transformer.', await readTensors(join(model, 'text_encoder_2')))
  writeSafetensors(file, all)
}

/** Makes the projection of a folder's first text encoder the identity, as in one that is read from a single file of Stability. */
export async function unproject(model: string): Promise<void> {
  const folder = join(model, 'text_encoder')
  const tensors = await readTensors(folder)
  const width = tensors['text_projection.weight']!.shape[0]!
  const identity = Float32Array.from({ length: width * width }, (_, index) => (index % (width + 1) === 0 ? 1 : 0))
  const projection = { dtype: 'F32', shape: [width, width], data: new Uint8Array(identity.buffer) }
  writeSafetensors(join(folder, 'model.safetensors'), { ...tensors, 'text_projection.weight': projection })
}

/** The tensors of a part's folder, by the names of diffusers. */
export async function readTensors(folder: string): Promise<Tensors> {
  const { tensors } = await readCheckpoint(findWeights(folder)!)
  const read: Tensors = {}
  for (const [name, { file, dtype, shape, offset, length }] of tensors)
    read[name] = { dtype, shape: [...shape], data: (await readFile(file)).subarray(offset, offset + length) }
  return read
}

const stability: [RegExp, string][] = [
  [/^pos_embed\.pos_embed$/, 'pos_embed'],
  [/^pos_embed\.proj\./, 'x_embedder.proj.'],
  [/^time_text_embed\.timestep_embedder\.linear_1\./, 't_embedder.mlp.0.'],
  [/^time_text_embed\.timestep_embedder\.linear_2\./, 't_embedder.mlp.2.'],
  [/^time_text_embed\.text_embedder\.linear_1\./, 'y_embedder.mlp.0.'],
  [/^time_text_embed\.text_embedder\.linear_2\./, 'y_embedder.mlp.2.'],
  [/^norm_out\.linear\./, 'final_layer.adaLN_modulation.1.'],
  [/^proj_out\./, 'final_layer.linear.'],
  [/^transformer_blocks\.(\d+)\.norm1\.linear\./, 'joint_blocks.$1.x_block.adaLN_modulation.1.'],
  [/^transformer_blocks\.(\d+)\.norm1_context\.linear\./, 'joint_blocks.$1.context_block.adaLN_modulation.1.'],
  [/^transformer_blocks\.(\d+)\.(attn2?)\.to_out\.0\./, 'joint_blocks.$1.x_block.$2.proj.'],
  [/^transformer_blocks\.(\d+)\.attn\.to_add_out\./, 'joint_blocks.$1.context_block.attn.proj.'],
  [/^transformer_blocks\.(\d+)\.(attn2?)\.norm_([qk])\./, 'joint_blocks.$1.x_block.$2.ln_$3.'],
  [/^transformer_blocks\.(\d+)\.attn\.norm_added_([qk])\./, 'joint_blocks.$1.context_block.attn.ln_$2.'],
  [/^transformer_blocks\.(\d+)\.ff\.net\.0\.proj\./, 'joint_blocks.$1.x_block.mlp.fc1.'],
  [/^transformer_blocks\.(\d+)\.ff\.net\.2\./, 'joint_blocks.$1.x_block.mlp.fc2.'],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj\./, 'joint_blocks.$1.context_block.mlp.fc1.'],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.2\./, 'joint_blocks.$1.context_block.mlp.fc2.'],
]
const fusedNames = /^transformer_blocks\.(\d+)\.(attn2?)\.(to_q|add_q_proj)\.(weight|bias)$/

/** The tensors of a transformer, renamed and rearranged. */
export function toStability(tensors: Tensors): Tensors {
  const layers = Object.keys(tensors).filter((name) => name.endsWith('.attn.to_q.weight')).length
  const swapped = ['norm_out.linear.', `transformer_blocks.${layers - 1}.norm1_context.linear.`]
  const written: Tensors = {}
  for (const [name, tensor] of Object.entries(tensors)) {
    const fused = fusedNames.exec(name)
    if (fused !== null) {
      const [, block, attention, query, kind] = fused as unknown as [string, string, string, string, string]
      const stream = query === 'to_q' ? 'x_block' : 'context_block'
      const others = query === 'to_q' ? ['to_k', 'to_v'] : ['add_k_proj', 'add_v_proj']
      const parts = [query, ...others].map((part) => tensors[`transformer_blocks.${block}.${attention}.${part}.${kind}`]!)
      const shape = [tensor.shape[0]! * 3, ...tensor.shape.slice(1)]
      const data = Buffer.concat(parts.map(({ data }) => data))
      written[`joint_blocks.${block}.${stream}.${attention}.qkv.${kind}`] = { dtype: tensor.dtype, shape, data }
    } else if (!/\.(to_[kv]|add_[kv]_proj)\./.test(name)) {
      const rule = stability.find(([pattern]) => pattern.test(name))
      const half = tensor.data.length / 2
      const isSwapped = swapped.some((prefix) => name.startsWith(prefix))
      const data = isSwapped ? Buffer.concat([tensor.data.subarray(half), tensor.data.subarray(0, half)]) : tensor.data
      written[rule === undefined ? name : name.replace(...rule)] = { ...tensor, data }
    }
  }
  return written
}

const ldm: [RegExp, string][] = [
  [/\.conv_norm_out\./, '.norm_out.'],
  [/\.mid_block\.attentions\.0\.group_norm\./, '.mid.attn_1.norm.'],
  [/\.mid_block\.attentions\.0\.to_([qkv])\./, '.mid.attn_1.$1.'],
  [/\.mid_block\.attentions\.0\.to_out\.0\./, '.mid.attn_1.proj_out.'],
  [/\.mid_block\.resnets\.0\./, '.mid.block_1.'],
  [/\.mid_block\.resnets\.1\./, '.mid.block_2.'],
  [/\.(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\./, '.$1.$2.block.$3.nin_shortcut.'],
  [/\.(down|up)_blocks\.(\d+)\.resnets\.(\d+)\./, '.$1.$2.block.$3.'],
  [/\.(down|up)_blocks\.(\d+)\.(downsample|upsample)rs\.0\.conv\./, '.$1.$2.$3.conv.'],
]

/** The tensors of a VAE, renamed and reshaped. */
export function toLdm(tensors: Tensors): Tensors {
  const ups = new Set(Object.keys(tensors).flatMap((name) => /^decoder\.up_blocks\.(\d+)\./.exec(name)?.[1] ?? [])).size
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      const rule = ldm.find(([pattern]) => pattern.test(name))
      const renamed = rule === undefined ? name : name.replace(...rule)
      const counted = renamed.replace(/^decoder\.up\.(\d+)\./, (_, index: string) => `decoder.up.${ups - 1 - Number(index)}.`)
      const isLinear = name.includes('.attentions.') && tensor.shape.length === 2
      return [counted, isLinear ? { ...tensor, shape: [...tensor.shape, 1, 1] } : tensor]
    }),
  )
}
