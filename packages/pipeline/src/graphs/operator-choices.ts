/**
 * Which operator a graph uses for what, by the provider that runs it: the one table of these choices.
 *
 * 'plain' stands for a few operators of ONNX itself, which every provider has and which give the same numbers everywhere. A fused one is
 * faster and, for attention, needs no memory for the matrix of heads × tokens².
 */
import type { ExecutionProvider } from '../models/onnx-runtime.ts'

export interface OperatorChoices {
  readonly attention: 'MultiHeadAttention' | 'plain'
  /** The tanh approximation. */
  readonly gelu: 'FastGelu' | 'plain'
  /** QuickGelu of strength 1 is SiLU. */
  readonly silu: 'QuickGelu' | 'plain'
  readonly rmsNorm: 'SimplifiedLayerNormalization' | 'plain'
  /** Whether tables are read in the type they are stored in, and only what is taken from them is cast, or are cast as a whole. */
  readonly tables: 'stored' | 'cast'
}

const FUSED: OperatorChoices = {
  attention: 'MultiHeadAttention',
  gelu: 'FastGelu',
  silu: 'QuickGelu',
  rmsNorm: 'SimplifiedLayerNormalization',
  tables: 'stored',
}
export const PLAIN: OperatorChoices = { attention: 'plain', gelu: 'plain', silu: 'plain', rmsNorm: 'plain', tables: 'stored' }

export const OPERATOR_CHOICES: Readonly<Record<ExecutionProvider, OperatorChoices>> = {
  // Each keeps a row of a batch bit-identical to the row alone. A scale fused into LayerNormalization does not, and is used nowhere.
  cpu: FUSED,
  cuda: FUSED,
  // Its MultiHeadAttention gives wrong values from 64 tokens on, at least in software, and many devices cannot touch float16 at all.
  webgpu: { ...FUSED, attention: 'plain', tables: 'cast' },
  // These take only ONNX's own operators; anything else would be cut out of their part of the graph.
  tensorrt: PLAIN,
  coreml: PLAIN,
  dml: PLAIN,
}
