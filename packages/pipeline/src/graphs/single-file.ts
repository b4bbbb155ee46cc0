/**
 * Weights under the names of other tools, presented as the parts that diffusers would have saved: those of a file that holds several parts,
 * and those of one part under Stability's names. They are views into the same file; nothing is rewritten.
 *
 * Follows diffusers' single_file_utils.py, version 0.42. Knows nothing about configurations: a part's graph checks what the part must hold.
 */
import { ModelFileError } from '../models/model-file.ts'
import { Checkpoint } from './checkpoint.ts'
import { describeQuantisation } from './describe-quantisation.ts'
import type { StoredTensor } from './safetensors.ts'

export type SingleFilePart = 'transformer' | 'vae' | 'text_encoder' | 'text_encoder_2' | 'text_encoder_3'

const unprojectedPrefix = 'text_encoders.clip_l.transformer.'

/** The prefixes under which tools store the names of each part. A file that holds a transformer alone may have none. */
const prefixes: Readonly<Record<SingleFilePart, readonly string[]>> = {
  transformer: ['model.diffusion_model.', 'diffusion_model.', 'transformer.'],
  vae: ['first_stage_model.', 'vae.'],
  text_encoder: [unprojectedPrefix, 'text_encoder.'],
  text_encoder_2: ['text_encoders.clip_g.transformer.', 'text_encoder_2.'],
  text_encoder_3: ['text_encoders.t5xxl.transformer.', 'text_encoder_3.'],
}

const singleFileParts = Object.keys(prefixes) as SingleFilePart[]

/** A tensor that every transformer of this kind has, under Stability's name and under diffusers'. */
const stabilityMark = 'x_embedder.proj.weight'
const diffusersMark = 'pos_embed.proj.weight'

/** Tensors that show what a file without prefixes is, each with the place in a model's folder where such a file belongs. */
const lonelyParts = [
  ['decoder.conv_in.weight', 'a VAE alone, which is read as vae/diffusion_pytorch_model.safetensors'],
  ['text_model.embeddings.token_embedding.weight', 'a CLIP text encoder alone, which is read as text_encoder/model.safetensors'],
  ['encoder.block.0.layer.0.SelfAttention.q.weight', 'a T5 encoder alone, which is read as text_encoder_3/model.safetensors'],
] as const

type Rules = readonly (readonly [pattern: RegExp, name: string])[]

const transformerRules: Rules = [
  [/^pos_embed$/, 'pos_embed.pos_embed'],
  [/^x_embedder\.proj\./, 'pos_embed.proj.'],
  [/^t_embedder\.mlp\.0\./, 'time_text_embed.timestep_embedder.linear_1.'],
  [/^t_embedder\.mlp\.2\./, 'time_text_embed.timestep_embedder.linear_2.'],
  [/^y_embedder\.mlp\.0\./, 'time_text_embed.text_embedder.linear_1.'],
  [/^y_embedder\.mlp\.2\./, 'time_text_embed.text_embedder.linear_2.'],
  [/^context_embedder\./, 'context_embedder.'],
  [/^final_layer\.adaLN_modulation\.1\./, 'norm_out.linear.'],
  [/^final_layer\.linear\./, 'proj_out.'],
  [/^joint_blocks\.(\d+)\.x_block\.adaLN_modulation\.1\./, 'transformer_blocks.$1.norm1.linear.'],
  [/^joint_blocks\.(\d+)\.x_block\.(attn2?)\.proj\./, 'transformer_blocks.$1.$2.to_out.0.'],
  [/^joint_blocks\.(\d+)\.x_block\.(attn2?)\.ln_([qk])\./, 'transformer_blocks.$1.$2.norm_$3.'],
  [/^joint_blocks\.(\d+)\.x_block\.mlp\.fc1\./, 'transformer_blocks.$1.ff.net.0.proj.'],
  [/^joint_blocks\.(\d+)\.x_block\.mlp\.fc2\./, 'transformer_blocks.$1.ff.net.2.'],
  [/^joint_blocks\.(\d+)\.context_block\.adaLN_modulation\.1\./, 'transformer_blocks.$1.norm1_context.linear.'],
  [/^joint_blocks\.(\d+)\.context_block\.attn\.proj\./, 'transformer_blocks.$1.attn.to_add_out.'],
  [/^joint_blocks\.(\d+)\.context_block\.attn\.ln_([qk])\./, 'transformer_blocks.$1.attn.norm_added_$2.'],
  [/^joint_blocks\.(\d+)\.context_block\.mlp\.fc1\./, 'transformer_blocks.$1.ff_context.net.0.proj.'],
  [/^joint_blocks\.(\d+)\.context_block\.mlp\.fc2\./, 'transformer_blocks.$1.ff_context.net.2.'],
]

/** The three products of an attention are stacked in one matrix. */
const qkvName = /^joint_blocks\.(\d+)\.(x_block|context_block)\.(attn2?)\.qkv\.(weight|bias)$/
const qkvNames = { x_block: ['to_q', 'to_k', 'to_v'], context_block: ['add_q_proj', 'add_k_proj', 'add_v_proj'] } as const

/** up.N counts from the largest picture, up_blocks.N from the smallest: see toVaeName. */
const vaeRules: Rules = [
  [/\.norm_out\./, '.conv_norm_out.'],
  [/\.mid\.attn_1\.norm\./, '.mid_block.attentions.0.group_norm.'],
  [/\.mid\.attn_1\.([qkv])\./, '.mid_block.attentions.0.to_$1.'],
  [/\.mid\.attn_1\.proj_out\./, '.mid_block.attentions.0.to_out.0.'],
  [/\.mid\.block_1\./, '.mid_block.resnets.0.'],
  [/\.mid\.block_2\./, '.mid_block.resnets.1.'],
  [/\.(down|up)\.(\d+)\.block\.(\d+)\.nin_shortcut\./, '.$1_blocks.$2.resnets.$3.conv_shortcut.'],
  [/\.(down|up)\.(\d+)\.block\.(\d+)\./, '.$1_blocks.$2.resnets.$3.'],
  [/\.(down|up)\.(\d+)\.(downsample|upsample)\.conv\./, '.$1_blocks.$2.$3rs.0.conv.'],
]

/** Throws unless a whole part can be taken from the file. The error says what it holds, because MODEL may name it by mistake. */
export function assertHoldsPart(file: Checkpoint): void {
  const names = [...file.tensors.keys()]
  const quantisation = describeQuantisation(file.tensors)
  // Nunchaku keeps a LoRA of its own beside each matrix.
  const lora = quantisation === undefined ? names.find((name) => /[._]lora[._]/.test(name)) : undefined
  const foreign = names.find((name) => prefixes.transformer.some((prefix) => name.startsWith(prefix)))
  const lonely = lonelyParts.find(([mark]) => file.has(mark))
  const has = (part: SingleFilePart): boolean => singleFilePart(file, part) !== undefined
  let found: string
  if (lora !== undefined) found = `a LoRA, which belongs in LORAS_DIR: ${lora}`
  else if (has('transformer') || (foreign === undefined && singleFileParts.some(has))) return
  else if (foreign !== undefined) found = `a transformer without ${stabilityMark}, so of another kind: ${foreign}`
  else if (lonely !== undefined) found = `${lonely[1]} of its model's folder`
  else found = quantisation ?? names[0] ?? 'no tensor'
  throw new ModelFileError(
    file.source,
    '',
    "a transformer of Stable Diffusion 3, a VAE or text encoders under Stability's or diffusers' names",
    found,
  )
}

/** The part, or undefined where the file does not hold it. `file`: all tensors of the file. */
export function singleFilePart(file: Checkpoint, part: SingleFilePart): Checkpoint | undefined {
  const names = [...file.tensors.keys()]
  const prefix = prefixes[part].find((each) => names.some((name) => name.startsWith(each)))
  const own = prefix === undefined ? file.tensors : withoutPrefix(file.tensors, prefix)
  if (part === 'transformer') {
    return [stabilityMark, diffusersMark].some((mark) => own.has(mark)) ? toDiffusersLayout(file.source, own, part) : undefined
  }
  if (prefix === undefined) return undefined
  // diffusers and ComfyUI leave out CLIP-L's projection, whatever such a file holds in its place.
  return prefix === unprojectedPrefix ? new Checkpoint(file.source, own, { unprojected: true }) : toDiffusersLayout(file.source, own, part)
}

/** A part under the names that diffusers gives its tensors; `tensors` may have Stability's or diffusers' own, without prefix. */
export function toDiffusersLayout(source: string, tensors: ReadonlyMap<string, StoredTensor>, part: SingleFilePart): Checkpoint {
  if (part === 'vae') return new Checkpoint(source, toVae(tensors))
  // Stability's own clip_l.safetensors has no projection, and every tool that reads the file does without one.
  if (part === 'text_encoder') return new Checkpoint(source, tensors, { unprojected: !tensors.has('text_projection.weight') })
  if (part !== 'transformer' || !tensors.has(stabilityMark)) return new Checkpoint(source, tensors)
  return new Checkpoint(source, toTransformer(tensors), { shiftFirst: true })
}

function withoutPrefix(tensors: ReadonlyMap<string, StoredTensor>, prefix: string): Map<string, StoredTensor> {
  return new Map([...tensors].filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [name.slice(prefix.length), tensor]))
}

function toTransformer(tensors: ReadonlyMap<string, StoredTensor>): Map<string, StoredTensor> {
  const renamed = new Map<string, StoredTensor>()
  for (const [name, tensor] of tensors) {
    const names = toDiffusersNames(name)
    if (names.length === 1) renamed.set(names[0] as string, tensor)
    else for (const [index, part] of names.entries()) renamed.set(part, third(tensor, index))
  }
  return renamed
}

/** What diffusers calls a tensor of the transformer: one name, or three where diffusers has its three equal parts, from the top. */
export function toDiffusersNames(name: string): string[] {
  const qkv = qkvName.exec(name)
  if (qkv === null) return [rename(name, transformerRules)]
  const [, block, stream, attention, kind] = qkv as unknown as [string, string, keyof typeof qkvNames, string, string]
  return qkvNames[stream].map((part) => `transformer_blocks.${block}.${attention}.${part}.${kind}`)
}

/** One of three equal parts of a tensor's rows. If three does not divide them, the shape is one that no graph asks for. */
function third(tensor: StoredTensor, index: number): StoredTensor {
  const [rows = 0, ...dims] = tensor.shape
  const length = tensor.length / 3
  return { ...tensor, shape: [rows / 3, ...dims], offset: tensor.offset + index * length, length }
}

function toVae(tensors: ReadonlyMap<string, StoredTensor>): Map<string, StoredTensor> {
  const ups = new Set([...tensors.keys()].flatMap((name) => /^decoder\.up\.(\d+)\./.exec(name)?.[1] ?? []))
  return new Map(
    [...tensors].map(([name, tensor]) => {
      const upright = name.replace(/^decoder\.up\.(\d+)\./, (_, index: string) => `decoder.up.${ups.size - 1 - Number(index)}.`)
      const renamed = rename(upright, vaeRules)
      const [to = 0, from = 0, height, width] = tensor.shape
      // A convolution of one pixel is the linear layer that diffusers has there.
      const isLinear = renamed.includes('.attentions.') && height === 1 && width === 1
      return [renamed, isLinear ? { ...tensor, shape: [to, from] } : tensor]
    }),
  )
}

function rename(name: string, rules: Rules): string {
  const rule = rules.find(([pattern]) => pattern.test(name))
  return rule === undefined ? name : name.replace(...(rule as [RegExp, string]))
}
