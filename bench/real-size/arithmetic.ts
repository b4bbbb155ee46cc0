/**
 * How much arithmetic a run of a transformer needs, and how fast the runtime multiplies matrices here: together, the least time that a run can take.
 */
import { encodeOnnxModel } from '../../packages/pipeline/src/graphs/onnx-model.ts'
import { defaultCpuThreads } from '../../packages/pipeline/src/models/cpu-threads.ts'
import { OnnxSession } from '../../packages/pipeline/src/models/onnx-session.ts'
import { Generator, randn } from '../../packages/pipeline/src/tensor/random-normal.ts'
import type { LinearShapes } from '../../packages/pipeline/src/tensor/lora.ts'
import { median } from '../harness/rounds.ts'

export interface TransformerSize {
  readonly rows: number
  readonly imageTokens: number
  readonly textTokens: number
  /** The width of a token within the blocks. */
  readonly width: number
}

const textLayers = /\.(?:add_[qkv]_proj|to_add_out)$|\.ff_context\.|^context_embedder$/
const productRuns = 7
const rowLayers = /norm\w*\.linear$|^time_text_embed\./

/** The number of floating-point operations of one run: of all linear layers, and of attention's two products. */
export function countOperations(linears: LinearShapes, { rows, imageTokens, textTokens, width }: TransformerSize): number {
  let multiplications = 0
  for (const [name, [outputs, inputs]] of linears) {
    const tokens = rowLayers.test(name) ? 1 : textLayers.test(name) ? textTokens : imageTokens
    multiplications += outputs * inputs * tokens
    if (name.endsWith('.attn.to_q')) multiplications += 2 * (imageTokens + textTokens) ** 2 * width
    if (name.endsWith('.attn2.to_q')) multiplications += 2 * imageTokens ** 2 * width
  }
  return 2 * rows * multiplications
}

/**
 * Floating-point operations a second of the runtime in the largest product of a run: all tokens with a layer of a feed-forward network, in
 * float32, with weights that the runtime has packed for its kernels.
 */
export async function measureProduct({ rows, imageTokens, textTokens, width }: TransformerSize): Promise<number> {
  const [tokens, outputs] = [rows * (imageTokens + textTokens), 4 * width]
  const bytes = encodeOnnxModel({
    nodes: [{ operator: 'Gemm', domain: '', name: 'product', inputs: ['x', 'w'], outputs: ['y'], attributes: { transB: 1 } }],
    initializers: [
      { name: 'w', type: 'float32', dims: [outputs, width], data: new Uint8Array(randn([outputs, width], new Generator(1)).data.buffer) },
    ],
    inputs: [{ name: 'x', type: 'float32', dims: [tokens, width] }],
    outputs: [{ name: 'y', type: 'float32', dims: [tokens, outputs] }],
  })
  const session = await OnnxSession.load(
    { name: 'a product', bytes, weights: 'packed', betweenRuns: 'open' },
    { intraOpNumThreads: defaultCpuThreads() },
  )
  const x = randn([tokens, width], new Generator(2))
  const seconds: number[] = []
  for (let run = -1; run < productRuns; run++) {
    const startedAt = performance.now()
    await session.run({ x }, ['y'])
    if (run >= 0) seconds.push((performance.now() - startedAt) / 1000)
  }
  await session.release()
  return (2 * tokens * outputs * width) / median(seconds)
}
