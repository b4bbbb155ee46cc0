/**
 * SD3Transformer2DModel as a graph: Stable Diffusion 3, 3.5 medium (dual attention) and 3.5 large (normalised queries and keys).
 *
 * Follows diffusers' transformer_sd3.py and attention.py@58eb52c, with two changes to the inputs. The graph takes the timestep's sinusoid,
 * computed by the caller because Sin and Cos differ between providers, and a mask of layers for each row, for skip-layer guidance.
 */
import { z } from 'zod'
import { ModelFileError } from '../models/model-file.ts'
import { timestepChannels } from '../models/timestep-proj.ts'
import type { Checkpoint } from './checkpoint.ts'
import { Layers } from './layers.ts'
import type { GraphOptions } from './layers.ts'
import type { OnnxGraph } from './onnx-model.ts'
import { sincosPositions } from './sincos-positions.ts'

const count = z.int().positive()

export const sd3TransformerGraphConfigSchema = z.looseObject({
  patch_size: count,
  in_channels: count,
  out_channels: count.nullish(),
  num_layers: count,
  attention_head_dim: count,
  num_attention_heads: count,
  joint_attention_dim: count,
  pooled_projection_dim: count,
  pos_embed_max_size: count,
  /** In latent pixels; used to compute the table of positions where the checkpoint has none. */
  sample_size: count.default(128),
  /** Layers whose image tokens also attend to themselves alone. */
  dual_attention_layers: z.array(z.int().nonnegative()).default([]),
  qk_norm: z.literal('rms_norm').nullish(),
})
export type Sd3TransformerGraphConfig = z.infer<typeof sd3TransformerGraphConfigSchema>

/** Upper limit of patches along a side for which positions are computed: more than ten times that of any known model. */
const maxComputedPositions = 4096

/** The epsilon of every norm in this model. */
const epsilon = 1e-6

export function buildSd3TransformerGraph(config: Sd3TransformerGraphConfig, checkpoint: Checkpoint, options: GraphOptions): OnnxGraph {
  const g = new TransformerLayers(checkpoint, options, config)
  const { dim } = g
  const { in_channels: channels, joint_attention_dim: textDim, pooled_projection_dim: pooledDim, num_layers: layers } = config
  // The layer mask is split before any block is looked up, so an absurd number of layers has to be refused first.
  checkpoint.tensor(`transformer_blocks.${layers - 1}.attn.to_q.weight`, [dim, dim])
  // No other check would find that the configuration omits these norms, because all the tensors it asks for would exist.
  const norm = 'transformer_blocks.0.attn.norm_q.weight'
  if (config.qk_norm == null && checkpoint.has(norm))
    throw new ModelFileError(checkpoint.source, 'qk_norm of its config.json', `"rms_norm", because there is a tensor ${norm}`, 'null')

  const givenLatents = g.input('hidden_states', 'float32', ['batch', channels, 'height', 'width'])
  const givenPrompt = g.input('encoder_hidden_states', 'float32', ['batch', 'tokens', textDim])
  const pooled = g.input('pooled_projections', 'float32', ['batch', pooledDim])
  const timestep = g.input('timestep_proj', 'float32', ['batch', timestepChannels])
  const mask = g.node('Unsqueeze', [g.input('layer_mask', 'float32', ['batch', layers]), g.int64s(2)])
  const patches = g.node('Div', [g.mul(g.lengths(givenLatents, 2, 3), g.lengths(givenLatents, 3, 4)), g.int64s(config.patch_size ** 2)])
  const rows = g.mul(g.lengths(givenLatents, 0, 1), g.node('Min', [patches, g.lengths(givenPrompt, 1, 2)]))
  const latents = g.atLeastTwo(givenLatents, 4, rows)
  const prompt = g.atLeastTwo(givenPrompt, 3, rows)
  const kept = g.split('Split', [mask], layers, { axis: 1, num_outputs: layers })
  const condition = g.silu(
    g.add(
      g.mlp(timestep, 'time_text_embed.timestep_embedder', timestepChannels),
      g.mlp(pooled, 'time_text_embed.text_embedder', pooledDim),
    ),
  )

  const { tokens, grid } = embedPatches(g, config, latents)
  let state: State = { image: tokens, text: g.toFloat32(g.linear(g.toCompute(prompt), 'context_embedder', textDim, dim)) }
  for (const [index, gate] of kept.entries()) state = g.within(`block ${index}`, () => block(g, index, state, { condition, kept: gate }))

  const [scale, shift] = g.continuous(condition, 'norm_out')
  const outChannels = config.out_channels ?? channels
  const patchValues = config.patch_size ** 2 * outChannels
  const out = g.linear(g.modulate(g.normalize(state.image), scale, shift), 'proj_out', dim, patchValues)
  const velocity = g.firstOf(joinPatches(g, config.patch_size, outChannels, g.toFloat32(out), grid), givenLatents)
  g.output('out_hidden_states', velocity, 'float32', ['batch', outChannels, 'height', 'width'])
  return g.graph
}

/** What runs through the blocks: the tokens of the image and of the text, (batch, tokens, dim) float32 each. */
interface State {
  readonly image: string
  readonly text: string
}

/** What conditions a block. */
interface Steering {
  /** Timestep and pooled prompt together, (batch, dim). */
  readonly condition: string
  /** (batch, 1, 1): 1 where the row goes through this layer, 0 where it bypasses it. */
  readonly kept: string
}

/** One JointTransformerBlock. The last one has no output for the text. */
function block(g: TransformerLayers, index: number, { image, text }: State, { condition, kept }: Steering): State {
  const { config, dim, heads, headDim } = g
  const name = `transformer_blocks.${index}`
  const last = index === config.num_layers - 1
  const dual = config.dual_attention_layers.includes(index)
  const gated = (state: string, gate: string, value: string) => g.add(state, g.mul(g.mul(gate, kept), g.toFloat32(value)))

  const own = g.modulation(condition, `${name}.norm1`, dual ? 9 : 6) as Modulation
  const normed = g.normalize(image)
  const x = g.modulate(normed, own[1], own[0])
  const context = last ? undefined : (g.modulation(condition, `${name}.norm1_context`, 6) as Modulation)
  const [scale, shift] = context === undefined ? g.continuous(condition, `${name}.norm1_context`) : [context[1], context[0]]
  const c = g.modulate(g.normalize(text), scale, shift)

  const attn = `${name}.attn`
  const mixed = g.attention(
    [
      g.join([g.project(x, `${attn}.to_q`, `${attn}.norm_q`), g.project(c, `${attn}.add_q_proj`, `${attn}.norm_added_q`)], 1),
      g.join([g.project(x, `${attn}.to_k`, `${attn}.norm_k`), g.project(c, `${attn}.add_k_proj`, `${attn}.norm_added_k`)], 1),
      g.join([g.linear(x, `${attn}.to_v`, dim, dim), g.linear(c, `${attn}.add_v_proj`, dim, dim)], 1),
    ],
    { heads, headDim },
  )
  const parts = g.join([g.lengths(x, 1, 2), g.lengths(c, 1, 2)], 0)
  const [toImage, toText] = g.split('Split', [mixed, parts], 2, { axis: 1 }) as [string, string]

  let y = gated(image, own[2], g.linear(toImage, `${attn}.to_out.0`, dim, dim))
  if (dual) {
    const alone = g.modulate(normed, own[7], own[6])
    const name2 = `${name}.attn2`
    const values = g.attention(
      [
        g.project(alone, `${name2}.to_q`, `${name2}.norm_q`),
        g.project(alone, `${name2}.to_k`, `${name2}.norm_k`),
        g.linear(alone, `${name2}.to_v`, dim, dim),
      ],
      { heads, headDim },
    )
    y = gated(y, own[8], g.linear(values, `${name2}.to_out.0`, dim, dim))
  }
  y = gated(y, own[5], g.feedForward(g.modulate(g.normalize(y), own[4], own[3]), `${name}.ff`))
  if (context === undefined) return { image: y, text }

  let z = gated(text, context[2], g.linear(toText, `${attn}.to_add_out`, dim, dim))
  z = gated(z, context[5], g.feedForward(g.modulate(g.normalize(z), context[4], context[3]), `${name}.ff_context`))
  return { image: y, text: z }
}

/** The layers that only this model has. */
class TransformerLayers extends Layers {
  readonly config: Sd3TransformerGraphConfig
  readonly heads: number
  readonly headDim: number
  readonly dim: number

  constructor(checkpoint: Checkpoint, options: GraphOptions, config: Sd3TransformerGraphConfig) {
    super(checkpoint, options)
    this.config = config
    this.heads = config.num_attention_heads
    this.headDim = config.attention_head_dim
    this.dim = this.heads * this.headDim
  }

  mlp(x: string, name: string, from: number): string {
    const hidden = this.rowLinear(this.toCompute(x), `${name}.linear_1`, from, this.dim)
    return this.rowLinear(this.silu(hidden), `${name}.linear_2`, this.dim, this.dim)
  }

  /** `parts` vectors for each row, (batch, 1, dim) float32 each. */
  modulation(condition: string, name: string, parts: number): string[] {
    const all = this.toFloat32(this.rowLinear(condition, `${name}.linear`, this.dim, this.dim * parts))
    return this.split('Split', [this.node('Unsqueeze', [all, this.int64s(1)])], parts, { axis: 2, num_outputs: parts })
  }

  /** [scale, shift] of an AdaLayerNormContinuous. */
  continuous(condition: string, name: string): readonly [scale: string, shift: string] {
    const [first, second] = this.modulation(condition, name, 2) as [string, string]
    return this.checkpoint.shiftFirst ? [second, first] : [first, second]
  }

  normalize(x: string): string {
    return this.layerNorm(x, this.dim, epsilon)
  }

  /** Scale and shift are not fused into the norm, because that would make a row depend on the rows beside it. */
  modulate(normed: string, scale: string, shift: string): string {
    return this.toCompute(this.add(this.mul(normed, this.add(scale, this.scalar(1, 'float32'))), shift))
  }

  /** Queries or keys, normalised head by head where the model does that. */
  project(x: string, name: string, norm: string): string {
    const { config, dim, heads, headDim } = this
    const projected = this.linear(x, name, dim, dim)
    if (config.qk_norm == null) return projected
    return this.reshape(this.rmsNorm(this.reshape(projected, 0, -1, heads, headDim), headDim, epsilon, norm), 0, -1, dim)
  }

  feedForward(x: string, name: string): string {
    const { dim } = this
    return this.linear(this.fastGelu(this.linear(x, `${name}.net.0.proj`, dim, dim * 4)), `${name}.net.2`, dim * 4, dim)
  }
}

/** Shift, scale and gate for the attention, then for the feed-forward and, with dual attention, for the second attention. */
type Modulation = [string, string, string, string, string, string, string, string, string]

/** The latents' patches with their positions, (batch, height × width in patches, dim) float32, and [height, width] in patches. */
function embedPatches(g: Layers, config: Sd3TransformerGraphConfig, latents: string): { tokens: string; grid: [string, string] } {
  const { patch_size: patch, pos_embed_max_size: max, in_channels: channels } = config
  const dim = config.num_attention_heads * config.attention_head_dim
  const weight = g.weight('pos_embed.proj.weight', [dim, channels, patch, patch])
  const square = { kernel_shape: [patch, patch], strides: [patch, patch] }
  const patches = g.node('Conv', [g.toCompute(latents), weight, g.weight('pos_embed.proj.bias', [dim])], square)
  const tokens = g.toFloat32(g.node('Transpose', [g.reshape(patches, 0, dim, -1)], { perm: [0, 2, 1] }))

  const size = g.split('Split', [g.lengths(latents, 2, 4)], 2, { axis: 0, num_outputs: 2 })
  const grid = size.map((length) => g.node('Div', [length, g.int64s(patch)])) as [string, string]
  // The middle of the table of positions.
  const start = grid.map((length) => g.node('Div', [g.node('Sub', [g.int64s(max), length]), g.int64s(2)]))
  const end = start.map((first, axis) => g.add(first, grid[axis] as string))
  const span = (axis: number) => [start[axis] as string, end[axis] as string] as const
  return { tokens: g.add(tokens, g.reshape(positions(g, config, span(0), span(1)), 1, -1, dim)), grid }
}

/** The positions of the patches in the given rows and columns of the square that the model knows: (rows, columns, dim) float32. */
function positions(g: Layers, config: Sd3TransformerGraphConfig, rows: Span, columns: Span): string {
  const { pos_embed_max_size: max, patch_size: patch, sample_size: side } = config
  const dim = config.num_attention_heads * config.attention_head_dim
  const name = 'pos_embed.pos_embed'
  if (g.checkpoint.has(name)) {
    const table = g.table(name, [1, max * max, dim], [max, max, dim])
    const ends = [0, 1].map((end) => g.join([rows[end] as string, columns[end] as string], 0))
    return table.toFloat32(g.node('Slice', [table.value, ...ends, g.int64s(0, 1)]))
  }
  // diffusers computes the table where a checkpoint has none. Its first half depends on the column only, its second half on the row.
  if (dim % 4 !== 0 || side < patch)
    throw new ModelFileError(g.checkpoint.source, `tensor ${name}`, `[1, ${max * max}, ${dim}]`, 'no such tensor, and none can be computed')
  if (max > maxComputedPositions) {
    const field = 'pos_embed_max_size of its config.json'
    throw new ModelFileError(g.checkpoint.source, field, `at most ${maxComputedPositions}, as ${name} is not stored`, `${max}`)
  }
  const axis = g.constant('positions', 'float32', [max, dim / 2], sincosPositions(max, dim / 2, Math.floor(side / patch)))
  const [byRow, byColumn] = [rows, columns].map((span, index) =>
    g.node('Unsqueeze', [g.node('Slice', [axis, ...span, g.int64s(0)]), g.int64s(1 - index)]),
  ) as [string, string]
  const cells = g.join([g.lengths(byRow, 0, 1), g.lengths(byColumn, 1, 2), g.int64s(dim / 2)], 0)
  return g.join([g.node('Expand', [byColumn, cells]), g.node('Expand', [byRow, cells])], 2)
}

/** The first index and the one after the last, each a vector of one value. */
type Span = readonly [start: string, end: string]

/** (batch, tokens, patch × patch × channels) back to (batch, channels, height, width). */
function joinPatches(g: Layers, patch: number, channels: number, tokens: string, grid: readonly [string, string]): string {
  const cells = g.node('Reshape', [tokens, g.join([g.int64s(0), ...grid, g.int64s(patch, patch, channels)], 0)])
  const sides = grid.map((length) => g.mul(length, g.int64s(patch)))
  const image = g.node('Transpose', [cells], { perm: [0, 5, 1, 3, 2, 4] })
  return g.node('Reshape', [image, g.join([g.int64s(0, channels), ...sides], 0)])
}
