/**
 * Graphs with a single kind of operator, to find out whether a provider computes it correctly. No weights, no model: x in, y out.
 */
import { Checkpoint } from './checkpoint.ts'
import { Layers } from './layers.ts'
import type { GraphOptions } from './layers.ts'
import type { OnnxGraph } from './onnx-model.ts'
import type { OperatorChoices } from './operator-choices.ts'

const checkedHeads = 2
const checkedHeadDim = 64
const checkedDim = checkedHeads * checkedHeadDim
/** The number of values in a token of x: one query, one key and one value. */
export const checkWidth = 3 * checkedDim

type CheckedOperator = Exclude<keyof OperatorChoices, 'tables'>

/** How the graphs of models use each choice. `x`: (batch, tokens, checkWidth) in the compute type. */
const uses: Readonly<Record<CheckedOperator, (g: Layers, x: string) => string>> = {
  attention: (g, x) => {
    const [q, k, v] = g.split('Split', [x], 3, { axis: 2, num_outputs: 3 }) as [string, string, string]
    const free = g.attention([q, k, v], { heads: checkedHeads, headDim: checkedHeadDim })
    const causal = g.attention([q, k, v], { heads: checkedHeads, headDim: checkedHeadDim, causal: true })
    // A bias for each pair of tokens, as in T5: (1, heads, tokens, tokens).
    const row = g.reshape(g.node('Slice', [x, g.int64s(0), g.int64s(checkedHeads), g.int64s(2)]), 1, -1, checkedHeads)
    const heads = g.node('Unsqueeze', [g.node('Transpose', [row], { perm: [0, 2, 1] }), g.int64s(3)])
    const bias = g.add(heads, g.node('Transpose', [heads], { perm: [0, 1, 3, 2] }))
    const biased = g.attention([q, k, v], { heads: checkedHeads, headDim: checkedHeadDim, scale: 0.1, bias })
    return g.join([free, causal, biased], 2)
  },
  gelu: (g, x) => g.fastGelu(x),
  silu: (g, x) => g.join([g.silu(x), g.quickGelu(x)], 2),
  rmsNorm: (g, x) => {
    g.ready.set(
      `norm.weight ${g.computeType}`,
      g.toCompute(
        g.float32s(
          'norm.weight',
          Float32Array.from({ length: checkedHeadDim }, (_, i) => i / checkedHeadDim),
        ),
      ),
    )
    return g.reshape(
      g.rmsNorm(g.reshape(x, 0, -1, checkWidth / checkedHeadDim, checkedHeadDim), checkedHeadDim, 1e-6, 'norm'),
      0,
      -1,
      checkWidth,
    )
  },
}

export const checkedOperators = Object.keys(uses) as CheckedOperator[]

/** x (1, tokens, checkWidth) to y. */
export function buildOperatorCheckGraph(operator: CheckedOperator, options: GraphOptions): OnnxGraph {
  const g = new Layers(new Checkpoint('no checkpoint', new Map()), options)
  const x = g.toCompute(g.input('x', 'float32', ['batch', 'tokens', checkWidth]))
  g.output('y', g.toFloat32(uses[operator](g, x)), 'float32', ['batch', 'tokens', 'width'])
  return g.graph
}
