/**
 * T5EncoderModel as a graph: the third text encoder of Stable Diffusion 3.
 *
 * Follows transformers' modeling_t5.py, version 5. The residual stream and the last product of each feed-forward are
 * float32 in every graph: in float16 they overflow, and transformers keeps them in float32 for the same reason.
 */
import { z } from 'zod'
import { ModelFileError } from '../models/model-file.ts'
import type { Checkpoint } from './checkpoint.ts'
import { activations, Layers } from './layers.ts'
import type { Activation, GraphOptions } from './layers.ts'
import type { OnnxGraph } from './onnx-model.ts'

const count = z.int().positive()

const gated = 'gated-'
const feedForwardSchema = z.enum(activations.flatMap((name) => [name, `${gated}${name}`]))

export const t5EncoderGraphConfigSchema = z.looseObject({
  vocab_size: count,
  d_model: count,
  d_kv: count,
  d_ff: count,
  num_layers: count,
  num_heads: count,
  /** The activation of each feed-forward; in the gated form a second product is multiplied by its result. */
  feed_forward_proj: feedForwardSchema.default('relu'),
  /** What feed_forward_proj says, in two fields that transformers prefers to it. */
  dense_act_fn: z.enum(activations).nullish(),
  is_gated_act: z.boolean().nullish(),
  /** A decoder's tokens would not see those after them. */
  is_decoder: z.literal(false).nullish(),
  layer_norm_epsilon: z.number().positive().default(1e-6),
  relative_attention_num_buckets: z.int().min(4).default(32),
  relative_attention_max_distance: count.default(128),
})
export type T5EncoderGraphConfig = z.infer<typeof t5EncoderGraphConfigSchema>

/** The longest prompt, in tokens. */
const maxTokens = 512

export function buildT5EncoderGraph(config: T5EncoderGraphConfig, checkpoint: Checkpoint, options: GraphOptions): OnnxGraph {
  const g = new Layers(checkpoint, options)
  const { d_model: dim, d_ff: inner, d_kv: headDim, num_heads: heads } = config
  const width = heads * headDim
  const { exact } = bucketsOf(config)
  if (config.relative_attention_max_distance <= exact) {
    const field = 'relative_attention_max_distance of its config.json'
    const expected = `above ${exact}, a quarter of relative_attention_num_buckets`
    throw new ModelFileError(checkpoint.source, field, expected, `${config.relative_attention_max_distance}`)
  }
  const given = g.input('input_ids', 'int64', ['batch', 'tokens'])
  const ids = g.atLeastTwo(given, 2, g.mul(g.lengths(given, 0, 1), g.lengths(given, 1, 2)))
  const norm = (x: string, name: string) => g.toCompute(g.rmsNorm(x, dim, config.layer_norm_epsilon, name, 'float32'))

  // If both are stored and differ, transformers 5 takes the encoder's own.
  const words = checkpoint.has('encoder.embed_tokens.weight') ? 'encoder.embed_tokens.weight' : 'shared.weight'
  const table = g.table(words, [config.vocab_size, dim])
  const { isGated, activation } = readFeedForward(config)
  let x = table.toFloat32(g.node('Gather', [table.value, ids]))
  const bias = positionBias(g, config, ids)
  for (let index = 0; index < config.num_layers; index++) {
    const attention = `encoder.block.${index}.layer.0`
    const feedForward = `encoder.block.${index}.layer.1`
    x = g.within(`block ${index}`, () => {
      const h = norm(x, `${attention}.layer_norm`)
      const linear = (part: string) => g.linear(h, `${attention}.SelfAttention.${part}`, dim, width, false)
      const mixed = g.attention([linear('q'), linear('k'), linear('v')], { heads, headDim, scale: 1, bias })
      const y = g.add(x, g.toFloat32(g.linear(mixed, `${attention}.SelfAttention.o`, width, dim, false)))
      const m = norm(y, `${feedForward}.layer_norm`)
      const up = (part: string) => g.linear(m, `${feedForward}.DenseReluDense.${part}`, dim, inner, false)
      const active = g.toFloat32(g.activate(up(isGated ? 'wi_0' : 'wi'), activation))
      const value = isGated ? g.mul(active, g.toFloat32(up('wi_1'))) : active
      return g.add(y, g.linear(value, `${feedForward}.DenseReluDense.wo`, inner, dim, false, 'float32'))
    })
  }
  const last = g.rmsNorm(x, dim, config.layer_norm_epsilon, 'encoder.final_layer_norm', 'float32')
  g.output('last_hidden_state', g.firstOf(last, given), 'float32', ['batch', 'tokens', dim])
  return g.graph
}

/** transformers computes 'gated-gelu' by the tanh approximation. */
function readFeedForward({ feed_forward_proj: name, dense_act_fn: given, is_gated_act: isGivenGated }: T5EncoderGraphConfig): {
  isGated: boolean
  activation: Activation
} {
  const named = (name.startsWith(gated) ? name.slice(gated.length) : name) as Activation
  return { isGated: isGivenGated ?? name.startsWith(gated), activation: given ?? (name === `${gated}gelu` ? 'gelu_new' : named) }
}

/** What attention adds for the distance between two tokens, (1, heads, tokens, tokens); all layers share it. */
function positionBias(g: Layers, config: T5EncoderGraphConfig, ids: string): string {
  const distances = Array.from({ length: 2 * maxTokens - 1 }, (_, index) => toBucket(index - (maxTokens - 1), config))
  const tokens = g.tokenRange(g.lengths(ids, 1, 2))
  const distance = g.node('Sub', [g.node('Unsqueeze', [tokens, g.int64s(0)]), g.node('Unsqueeze', [tokens, g.int64s(1)])])
  const bucket = g.node('Gather', [g.int64s(...distances), g.add(distance, g.int64(maxTokens - 1))])
  const name = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
  const table = g.weight(name, [config.relative_attention_num_buckets, config.num_heads])
  const rows = g.node('Transpose', [g.node('Gather', [table, bucket])], { perm: [2, 0, 1] })
  return g.node('Unsqueeze', [rows, g.int64s(0)])
}

type BucketConfig = Pick<T5EncoderGraphConfig, 'relative_attention_num_buckets' | 'relative_attention_max_distance'>

/** The number of buckets for one direction, and how many of them hold a single distance each. */
function bucketsOf({ relative_attention_num_buckets: buckets }: BucketConfig): { half: number; exact: number } {
  const half = Math.floor(buckets / 2)
  return { half, exact: Math.floor(half / 2) }
}

/**
 * T5Attention._relative_position_bucket in both directions: one bucket for each small distance, and buckets of growing width beyond.
 * In float32, as torch computes it.
 */
export function toBucket(distance: number, config: BucketConfig): number {
  const { half, exact } = bucketsOf(config)
  const side = distance > 0 ? half : 0
  const length = Math.abs(distance)
  if (length < exact) return side + length
  const logarithm = Math.fround(Math.log(Math.fround(length / exact)))
  const share = Math.fround(logarithm / Math.fround(Math.log(config.relative_attention_max_distance / exact)))
  return side + Math.min(half - 1, exact + Math.trunc(Math.fround(share * (half - exact))))
}
