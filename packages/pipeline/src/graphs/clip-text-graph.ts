/**
 * CLIPTextModelWithProjection as a graph: both CLIP text encoders of Stable Diffusion 3.
 *
 * Follows transformers' modeling_clip.py, version 5. The outputs are those of an optimum export: the pooled vector, and the hidden state
 * after each layer, before the final norm.
 */
import { z } from 'zod'
import { ModelFileError } from '../models/model-file.ts'
import type { Checkpoint } from './checkpoint.ts'
import { activations, Layers } from './layers.ts'
import type { GraphOptions } from './layers.ts'
import type { OnnxGraph } from './onnx-model.ts'

const count = z.int().positive()

export const clipTextGraphConfigSchema = z.looseObject({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  max_position_embeddings: count,
  projection_dim: count,
  hidden_act: z.enum(activations).default('quick_gelu'),
  layer_norm_eps: z.number().positive().default(1e-5),
  eos_token_id: z.int().nonnegative().default(49407),
})
export type ClipTextGraphConfig = z.infer<typeof clipTextGraphConfigSchema>

/** Configurations written before transformers 4.31 give this id for the end of text; for those, the position of the highest id is used. */
const legacyEos = 2

export function buildClipTextGraph(config: ClipTextGraphConfig, checkpoint: Checkpoint, options: GraphOptions): OnnxGraph {
  const g = new Layers(checkpoint, options)
  const { hidden_size: dim, intermediate_size: inner, num_attention_heads: heads, layer_norm_eps: epsilon } = config
  if (dim % heads !== 0)
    throw new ModelFileError(checkpoint.source, 'hidden_size of its config.json', `a multiple of ${heads} heads`, `${dim}`)
  if (checkpoint.unprojected && config.projection_dim !== dim)
    throw new ModelFileError(checkpoint.source, 'projection_dim of its config.json', `${dim}, its hidden_size`, `${config.projection_dim}`)
  const model = checkpoint.has('text_model.embeddings.token_embedding.weight') ? 'text_model.' : ''

  const ids = g.input('input_ids', 'int64', ['batch', 'tokens'])
  const norm = (x: string, name: string) => g.toCompute(g.layerNorm(x, dim, epsilon, name))
  const places = g.table(`${model}embeddings.position_embedding.weight`, [config.max_position_embeddings, dim])
  const first = g.node('Slice', [places.value, g.int64s(0), g.lengths(ids, 1, 2)])
  // Looked up in the stored type, and cast afterwards, because the table is far larger than the rows taken from it.
  const table = g.table(`${model}embeddings.token_embedding.weight`, [config.vocab_size, dim])
  const words = g.node('Gather', [table.value, ids])
  let x = g.add(table.toFloat32(words), places.toFloat32(first))
  const state = (index: number) => g.output(`hidden_states.${index}`, x, 'float32', ['batch', 'tokens', dim])
  state(0)
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const name = `${model}encoder.layers.${index}`
    x = g.within(`layer ${index}`, () => {
      const h = norm(x, `${name}.layer_norm1`)
      const linear = (part: string) => g.linear(h, `${name}.self_attn.${part}_proj`, dim, dim)
      const mixed = g.attention([linear('q'), linear('k'), linear('v')], { heads, headDim: dim / heads, causal: true })
      const y = g.add(x, g.toFloat32(g.linear(mixed, `${name}.self_attn.out_proj`, dim, dim)))
      const up = g.linear(norm(y, `${name}.layer_norm2`), `${name}.mlp.fc1`, dim, inner)
      return g.add(y, g.toFloat32(g.linear(g.activate(up, config.hidden_act), `${name}.mlp.fc2`, inner, dim)))
    })
    state(index + 1)
  }
  const marks = config.eos_token_id === legacyEos ? ids : g.cast(g.node('Equal', [ids, g.int64(config.eos_token_id)]), 'bool', 'int32')
  const end = g.node('ArgMax', [marks], { axis: 1, keepdims: 1 })
  const pooled = g.node('GatherND', [norm(x, `${model}final_layer_norm`), end], { batch_dims: 1 })
  const projected = checkpoint.unprojected ? pooled : g.rowLinear(pooled, 'text_projection', dim, config.projection_dim, false)
  g.output('text_embeds', g.toFloat32(projected), 'float32', ['batch', config.projection_dim])
  return g.graph
}
