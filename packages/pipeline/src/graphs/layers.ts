/**
 * The layers that models are made of, written in the operators that the provider runs best.
 *
 * Invariant: a row of a batch comes out bit for bit as it would alone, on the CPU, whichever way the weights are held.
 * Knows nothing about which model it is.
 */
import type { WeightMode } from '../models/session-options.ts'
import { float8Values, isFloat8 } from '../tensor/float8.ts'
import { loraGroup } from '../tensor/lora.ts'
import type { Checkpoint } from './checkpoint.ts'
import { GraphBuilder } from './graph-builder.ts'
import type { ComputeType } from './graph-builder.ts'
import type { OperatorChoices } from './operator-choices.ts'

type ActivationLayer = 'gelu' | 'fastGelu' | 'quickGelu' | 'relu' | 'silu'

/** The activations of text encoders, by their names in transformers. Several names mean the same activation. */
const activationLayers = {
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'fastGelu',
  gelu_fast: 'fastGelu',
  gelu_accurate: 'fastGelu',
  gelu_pytorch_tanh: 'fastGelu',
  gelu_python_tanh: 'fastGelu',
  quick_gelu: 'quickGelu',
  relu: 'relu',
  silu: 'silu',
  swish: 'silu',
} as const satisfies Readonly<Record<string, ActivationLayer>>
export type Activation = keyof typeof activationLayers
export const activations = Object.keys(activationLayers) as Activation[]

export interface GraphOptions {
  readonly operators: OperatorChoices
  /** Inputs, outputs and the residual stream are float32 in either case. */
  readonly computeType: ComputeType
  readonly weights: WeightMode
  /** Threads of a run on the CPU. With mapped weights a row is exact only for this number. Default 1. */
  readonly threads?: number
  /** Linear layers that take a low-rank addition through two further inputs, one for each row or one for all. Default none. */
  readonly loraLinears?: ReadonlySet<string>
}

export class Layers extends GraphBuilder {
  readonly operators: OperatorChoices
  readonly threads: number
  readonly loraLinears: ReadonlySet<string>

  constructor(checkpoint: Checkpoint, { operators, computeType, weights, threads = 1, loraLinears = new Set() }: GraphOptions) {
    super(checkpoint, computeType, weights)
    this.operators = operators
    this.threads = threads
    this.loraLinears = loraLinears
  }

  add(a: string, b: string): string {
    return this.node('Add', [a, b])
  }

  mul(a: string, b: string): string {
    return this.node('Mul', [a, b])
  }

  /** 0 keeps the length of an axis, -1 infers it from the rest. */
  reshape(value: string, ...dims: readonly number[]): string {
    return this.node('Reshape', [value, this.int64s(...dims)])
  }

  /** The lengths of the axes from `start` up to but without `end`, as a vector. */
  lengths(value: string, start: number, end: number): string {
    return this.node('Shape', [value], { start, end })
  }

  join(values: readonly string[], axis: number): string {
    return this.node('Concat', values, { axis })
  }

  /** torch's Linear from (batch, tokens, from) to (batch, tokens, to); its matrix is stored as (to, from). `x` and the result have `type`. */
  linear(x: string, name: string, from: number, to: number, bias = true, type = this.computeType): string {
    const rows = this.reshape(x, -1, from)
    const flat = this.gemm(rows, name, { from, to, bias, type, leastRows: this.leastRows(from, to) })
    const y = this.node('Reshape', [flat, this.join([this.lengths(x, 0, 2), this.int64s(to)], 0)])
    return this.loraLinears.has(name) ? this.add(y, this.lowRank(x, name, from, to)) : y
  }

  /** torch's Linear from (batch, from) to (batch, to). */
  rowLinear(x: string, name: string, from: number, to: number, bias = true): string {
    const y = this.gemm(x, name, { from, to, bias, type: this.computeType, leastRows: Math.max(2, this.leastRows(from, to)) })
    if (!this.loraLinears.has(name)) return y
    // Each vector is repeated as two tokens, for the reason given at leastRows.
    const token = this.node('Unsqueeze', [x, this.int64s(1)])
    const twice = this.lowRank(this.join([token, token], 1), name, from, to)
    return this.add(y, this.node('Squeeze', [this.node('Slice', [twice, this.int64s(0), this.int64s(1), this.int64s(1)]), this.int64s(1)]))
  }

  /** x · down · up, from (batch, tokens, from) to (batch, tokens, to). Inputs as in tensor/lora.ts; `sets` is the number of rows, or one. */
  lowRank(x: string, name: string, from: number, to: number): string {
    const down = this.toCompute(this.input(`${name}.lora_down`, 'float32', ['sets', `groups of ${name}`, from, loraGroup]))
    const up = this.toCompute(this.input(`${name}.lora_up`, 'float32', ['sets', `rank of ${name}`, to]))
    const groups = this.node('MatMul', [this.node('Unsqueeze', [x, this.int64s(1)]), down])
    const tokens = this.node('Transpose', [groups], { perm: [0, 2, 1, 3] })
    const low = this.node('Reshape', [tokens, this.join([this.lengths(x, 0, 2), this.lengths(up, 1, 2)], 0)])
    // The rank may be anything, so only the width decides in which order a sum is taken: see leastRows.
    const least = this.leastRows(Infinity, to)
    if (least === 0) return this.node('MatMul', [low, up])
    const wide = this.node('MatMul', [this.padTokens(low, least), up])
    return this.node('Slice', [wide, this.int64s(0), this.lengths(x, 1, 2), this.int64s(1)])
  }

  /** (batch, tokens, width), padded with zeros at the end to at least `least` tokens. */
  padTokens(x: string, least: number): string {
    const missing = this.node('Max', [this.node('Sub', [this.int64s(least), this.lengths(x, 1, 2)]), this.int64s(0)])
    const zeros = this.node('Expand', [this.scalar(0), this.join([this.lengths(x, 0, 1), missing, this.lengths(x, 2, 3)], 0)])
    return this.join([x, zeros], 1)
  }

  /**
   * How many rows a product needs so that each row comes out as it does among many, where the runtime does not pack the matrix beforehand (see
   * its sgemm.cpp). A single row takes another code path, so vectors and single tokens are computed in pairs (see atLeastTwo). Otherwise the sum
   * over `from` is taken in pieces of 128, or of more if a thread has 64 columns or fewer; threads divide the columns among themselves unless
   * there are as many rows as threads.
   */
  leastRows(from: number, to: number): number {
    const widthIsSafe = to >= this.threads * 80
    return from <= 128 || widthIsSafe ? 0 : to
  }

  /**
   * The batch itself or, where a single row would be multiplied by mapped weights, that row twice. `x` has `rank` axes; `rows` is a vector of
   * one value, the number of rows in its smallest product. `firstOf` removes the second copy.
   */
  atLeastTwo(x: string, rank: number, rows: string): string {
    if (this.weights === 'packed') return x
    const times = this.add(this.int64s(1), this.cast(this.node('Equal', [rows, this.int64s(1)]), 'bool', 'int64'))
    return this.node('Tile', [x, this.join([times, this.int64s(...Array<number>(rank - 1).fill(1))], 0)])
  }

  /** The first rows of `x`, as many as `batch` has. */
  firstOf(x: string, batch: string): string {
    return this.weights === 'packed' ? x : this.node('Slice', [x, this.int64s(0), this.lengths(batch, 0, 1)])
  }

  gemm(x: string, name: string, { from, to, bias, type, leastRows }: GemmOptions): string {
    const padded = this.weights === 'mapped' && leastRows > 0
    const matrix = this.matrix(`${name}.weight`, [to, from], x, type)
    const inputs = [padded ? this.padRows(x, from, leastRows, type) : x, matrix.value]
    if (bias) inputs.push(this.weight(`${name}.bias`, [to], [to], type))
    const rows = this.node('Gemm', inputs, matrix.scale === 1 ? { transB: 1 } : { transB: 1, alpha: { float: matrix.scale } })
    return padded ? this.node('Slice', [rows, this.int64s(0), this.lengths(x, 0, 1)]) : rows
  }

  /** (rows, width), padded with rows of zeros to at least `least` rows. */
  padRows(x: string, width: number, least: number, type: ComputeType): string {
    const missing = this.node('Max', [this.node('Sub', [this.int64s(least), this.lengths(x, 0, 1)]), this.int64s(0)])
    const zeros = this.node('Expand', [this.scalar(0, type), this.join([missing, this.int64s(width)], 0)])
    return this.join([x, zeros], 0)
  }

  /** Has no weights of its own unless `name` is given. `x` and the result are float32. */
  layerNorm(x: string, dim: number, epsilon: number, name?: string): string {
    const scale =
      name === undefined ? this.float32s(`ones ${dim}`, new Float32Array(dim).fill(1)) : this.float32Weight(`${name}.weight`, dim)
    const bias = name === undefined ? this.float32s(`zeros ${dim}`, new Float32Array(dim)) : this.float32Weight(`${name}.bias`, dim)
    return this.node('LayerNormalization', [x, scale, bias], { axis: -1, epsilon: { float: epsilon } })
  }

  float32Weight(name: string, dim: number): string {
    return this.weight(name, [dim], [dim], 'float32')
  }

  /** A lookup table. `dims`: the shape in which the graph reads it, if that differs from its own. */
  table(name: string, shape: readonly number[], dims = shape): Table {
    if (this.operators.tables === 'cast') return { value: this.weight(name, shape, dims, 'float32'), toFloat32: (taken) => taken }
    const { dtype, file, offset, length, scale } = this.checkpoint.tensor(name, shape)
    if (!isFloat8(dtype)) {
      const { value, type } = this.stored(name, shape, dims)
      return { value, toFloat32: (taken) => this.cast(taken, type, 'float32') }
    }
    // Gather does not support float8, and a table cast to float32 takes four times the memory. So bytes are looked up, then each byte's value.
    this.initializers.set(name, { name, type: 'uint8', dims, data: { file, offset, length } })
    const numbers = this.float32s(
      `${dtype} × ${scale}`,
      float8Values(dtype).map((value) => value * scale),
    )
    return { value: name, toFloat32: (taken) => this.node('Gather', [numbers, this.cast(taken, 'uint8', 'int32')]) }
  }

  /** Over the last axis, which has length `dim`. `x` and the result have `type`. */
  rmsNorm(x: string, dim: number, epsilon: number, name: string, type: ComputeType = this.computeType): string {
    const weight = this.weight(`${name}.weight`, [dim], [dim], type)
    if (this.operators.rmsNorm !== 'plain') return this.node(this.operators.rmsNorm, [x, weight], { axis: -1, epsilon: { float: epsilon } })
    const wide = this.cast(x, type, 'float32')
    const square = this.node('ReduceMean', [this.mul(wide, wide), this.int64s(-1)], { keepdims: 1 })
    const root = this.node('Sqrt', [this.add(square, this.scalar(epsilon, 'float32'))])
    return this.mul(this.cast(this.node('Div', [wide, root]), 'float32', type), weight)
  }

  silu(x: string): string {
    if (this.operators.silu !== 'plain') return this.node(this.operators.silu, [x], { alpha: { float: 1 } })
    return this.mul(x, this.node('Sigmoid', [x]))
  }

  /** x × sigmoid(1.702 x), as in CLIP-L. */
  quickGelu(x: string): string {
    if (this.operators.silu !== 'plain') return this.node('QuickGelu', [x], { alpha: { float: 1.702 } })
    return this.mul(x, this.node('Sigmoid', [this.mul(x, this.scalar(1.702))]))
  }

  /** GELU by its tanh approximation. */
  fastGelu(x: string): string {
    if (this.operators.gelu !== 'plain') return this.node(this.operators.gelu, [x])
    const cube = this.mul(x, this.mul(x, x))
    const inner = this.mul(this.scalar(Math.sqrt(2 / Math.PI)), this.add(x, this.mul(this.scalar(0.044715), cube)))
    return this.mul(this.mul(x, this.scalar(0.5)), this.add(this.scalar(1), this.node('Tanh', [inner])))
  }

  /** The activation with this name. */
  activate(x: string, name: Activation): string {
    return this[activationLayers[name]](x)
  }

  relu(x: string): string {
    return this.node('Relu', [x])
  }

  /** The exact GELU. */
  gelu(x: string): string {
    const erf = this.node('Erf', [this.mul(x, this.scalar(Math.SQRT1_2))])
    return this.mul(this.mul(x, this.scalar(0.5)), this.add(this.scalar(1), erf))
  }

  /**
   * Attention with `heads` heads of `headDim` values: q, k, v and the result are (batch, tokens, heads × headDim). The scores are multiplied
   * by `scale`, and `bias`, (1, heads, tokens, tokens), is added to them. `causal`: a token sees only itself and the tokens before it.
   */
  attention(
    [q, k, v]: readonly [string, string, string],
    { heads, headDim, scale = 1 / Math.sqrt(headDim), bias, causal = false }: AttentionOptions,
  ): string {
    if (this.operators.attention !== 'plain') {
      const attributes = { num_heads: heads, scale: { float: scale }, ...(causal ? { unidirectional: 1 } : {}) }
      return this.node(this.operators.attention, bias === undefined ? [q, k, v] : [q, k, v, '', '', bias], attributes)
    }
    const split = (x: string, perm: number[]) => this.node('Transpose', [this.reshape(x, 0, -1, heads, headDim)], { perm })
    // The root of the scale goes to each side, so that the products stay small.
    const root = this.scalar(Math.sqrt(scale))
    let scores = this.node('MatMul', [this.mul(split(q, [0, 2, 1, 3]), root), this.mul(split(k, [0, 2, 3, 1]), root)])
    if (bias !== undefined) scores = this.add(scores, bias)
    if (causal) scores = this.node('Where', [this.earlierTokens(q), scores, this.scalar(-Infinity)])
    const mixed = this.node('MatMul', [this.node('Softmax', [scores], { axis: -1 }), split(v, [0, 2, 1, 3])])
    return this.reshape(this.node('Transpose', [mixed], { perm: [0, 2, 1, 3] }), 0, -1, heads * headDim)
  }

  /** (tokens, tokens) bool: whether the column's token is the row's or an earlier one. */
  earlierTokens(x: string): string {
    const tokens = this.tokenRange(this.lengths(x, 1, 2))
    return this.node('LessOrEqual', [this.node('Unsqueeze', [tokens, this.int64s(0)]), this.node('Unsqueeze', [tokens, this.int64s(1)])])
  }

  /** 0, 1, … up to before `length`, a vector of one value. */
  tokenRange(length: string): string {
    return this.node('Range', [this.int64(0), this.node('Squeeze', [length, this.int64s(0)]), this.int64(1)])
  }
}

export interface Table {
  readonly value: string
  /** Converts entries taken from the table to float32. */
  readonly toFloat32: (taken: string) => string
}

interface GemmOptions {
  readonly from: number
  readonly to: number
  readonly bias: boolean
  readonly type: ComputeType
  readonly leastRows: number
}

export interface AttentionOptions {
  readonly heads: number
  readonly headDim: number
  /** Default 1 / √headDim. */
  readonly scale?: number
  /** Default none. */
  readonly bias?: string
  /** Default false. */
  readonly causal?: boolean
}
