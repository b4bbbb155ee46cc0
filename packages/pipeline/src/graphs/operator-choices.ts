/**
 * Which operator a graph uses for each purpose, by the provider that runs it. This is the only table of these choices.
 *
 * 'plain' means a few of ONNX's own operators, which every provider has and which give the same numbers everywhere. A fused operator is
 * faster and, for attention, needs no memory for the matrix of heads × tokens² scores.
 */
import type { ExecutionProvider } from '../models/onnx-runtime.ts'

export interface OperatorChoices {
  readonly attention: 'MultiHeadAttention' | 'plain'
  /** The tanh approximation. */
  readonly gelu: 'FastGelu' | 'plain'
  /** QuickGelu with strength 1 is SiLU. */
  readonly silu: 'QuickGelu' | 'plain'
  readonly rmsNorm: 'SimplifiedLayerNormalization' | 'plain'
  /** 'stored': a lookup table is read in its stored type and only the values taken from it are cast. 'cast': the whole table is cast. */
  readonly tables: 'stored' | 'cast'
}

const fusedOperators: OperatorChoices = {
  attention: 'MultiHeadAttention',
  gelu: 'FastGelu',
  silu: 'QuickGelu',
  rmsNorm: 'SimplifiedLayerNormalization',
  tables: 'stored',
}
export const plainOperators: OperatorChoices = { attention: 'plain', gelu: 'plain', silu: 'plain', rmsNorm: 'plain', tables: 'stored' }

export const operatorChoices: Readonly<Record<ExecutionProvider, OperatorChoices>> = {
  // Each of these keeps a row of a batch bit-identical to the row alone. A scale fused into LayerNormalization does not and is never used.
  cpu: fusedOperators,
  cuda: fusedOperators,
  // Its MultiHeadAttention gives wrong values from 64 tokens on, at least in software, and many devices do not support float16 at all.
  webgpu: { ...fusedOperators, attention: 'plain', tables: 'cast' },
  // These providers take only ONNX's own operators; any other would run on the CPU and split the graph.
  tensorrt: plainOperators,
  coreml: plainOperators,
  dml: plainOperators,
}
