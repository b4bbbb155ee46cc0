/**
 * Writes one graph, node by node. A value is represented by its name.
 *
 * Owns the names, the constants, and the way a stored weight enters the graph: its bytes stay where they are in the checkpoint's file, and a
 * Cast follows if they are stored in a type other than the one the graph computes in.
 * Knows nothing about models.
 */
import type { WeightMode } from '../models/session-options.ts'
import { toFloat16Bits } from '../tensor/float16.ts'
import type { Checkpoint, WeightTensor } from './checkpoint.ts'
import { elementTypes } from './onnx-model.ts'
import type { Attribute, ElementType, GraphEdge, GraphInitializer, GraphNode, OnnxGraph } from './onnx-model.ts'

/** What a graph computes in. */
export type ComputeType = 'float32' | 'float16'

const storedType = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F8_E4M3: 'float8e4m3fn', F8_E5M2: 'float8e5m2' } as const
const contrib = new Set(['FastGelu', 'MultiHeadAttention', 'QuickGelu'])

export class GraphBuilder {
  readonly checkpoint: Checkpoint
  readonly computeType: ComputeType
  readonly weights: WeightMode
  readonly nodes: GraphNode[] = []
  readonly initializers = new Map<string, GraphInitializer>()
  readonly inputs: GraphEdge[] = []
  readonly outputs: GraphEdge[] = []
  /** Weights that have entered the graph in its own type, by name. */
  readonly ready = new Map<string, string>()
  scope = ''

  constructor(checkpoint: Checkpoint, computeType: ComputeType, weights: WeightMode) {
    this.checkpoint = checkpoint
    this.computeType = computeType
    this.weights = weights
  }

  get graph(): OnnxGraph {
    return { nodes: this.nodes, initializers: [...this.initializers.values()], inputs: this.inputs, outputs: this.outputs }
  }

  /** Names nodes made in `body` after the part of the model they belong to, for profiles and errors. */
  within<T>(scope: string, body: () => T): T {
    const before = this.scope
    this.scope = scope
    try {
      return body()
    } finally {
      this.scope = before
    }
  }

  input(name: string, type: ElementType, dims: GraphEdge['dims']): string {
    this.inputs.push({ name, type, dims })
    return name
  }

  output(name: string, value: string, type: ElementType, dims: GraphEdge['dims']): void {
    this.nodes.push({ operator: 'Identity', domain: '', name: `output/${name}`, inputs: [value], outputs: [name], attributes: {} })
    this.outputs.push({ name, type, dims })
  }

  /** A node with several outputs. */
  split(operator: string, inputs: readonly string[], outputs: number, attributes: GraphNode['attributes'] = {}): string[] {
    const name = `${this.scope}/${operator}.${this.nodes.length}`
    const names = Array.from({ length: outputs }, (_, index) => (outputs === 1 ? name : `${name}:${index}`))
    const domain = contrib.has(operator) ? 'com.microsoft' : ''
    this.nodes.push({ operator, domain, name, inputs, outputs: names, attributes })
    return names
  }

  node(operator: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.split(operator, inputs, 1, attributes)[0] as string
  }

  /** A constant vector. Equal vectors are stored once. */
  int64s(...values: readonly number[]): string {
    return this.constant(`int64[${values.join()}]`, 'int64', [values.length], BigInt64Array.from(values, BigInt))
  }

  int64(value: number): string {
    return this.constant(`int64 ${value}`, 'int64', [], BigInt64Array.of(BigInt(value)))
  }

  float32s(name: string, values: Float32Array): string {
    return this.constant(name, 'float32', [values.length], values)
  }

  /** A scalar of the type. */
  scalar(value: number, type: ComputeType = this.computeType): string {
    const data = Float32Array.of(value)
    return this.constant(`${type} ${value}`, type, [], type === 'float16' ? toFloat16Bits(data) : data)
  }

  constant(name: string, type: ElementType, dims: readonly number[], values: BigInt64Array | Float32Array | Uint16Array): string {
    if (!this.initializers.has(name)) {
      const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      this.initializers.set(name, { name, type, dims, data })
    }
    return name
  }

  cast(value: string, from: ElementType, to: ElementType): string {
    return from === to ? value : this.node('Cast', [value], { to: elementTypes[to] })
  }

  /** Casts from float32, the type of inputs, outputs and sums, to the type the graph computes in. */
  toCompute(value: string): string {
    return this.cast(value, 'float32', this.computeType)
  }

  toFloat32(value: string): string {
    return this.cast(value, this.computeType, 'float32')
  }

  /** The weight in its stored type. `dims`: the shape in which the graph reads it, if that differs from its own. */
  stored(name: string, shape: readonly number[], dims = shape): StoredWeight {
    return this.initializer(name, this.checkpoint.tensor(name, shape), dims)
  }

  initializer(name: string, tensor: WeightTensor, dims: readonly number[]): StoredWeight {
    const { dtype, file, offset, length, scale } = tensor
    const type = storedType[dtype]
    // A checkpoint is little-endian, as everything that runs Node.js is.
    this.initializers.set(name, { name, type, dims, data: { file, offset, length } })
    return { value: name, type, scale }
  }

  /** The weight in the given type, multiplied by its factor. */
  weight(name: string, shape: readonly number[], dims = shape, type: ComputeType = this.computeType): string {
    return this.once(`${name} ${type}`, () => this.scaled(this.stored(name, shape, dims), type))
  }

  /**
   * The matrix of a linear layer in the given type, and the factor by which its product must still be multiplied. With mapped weights its Cast
   * depends on `input`: otherwise the runtime would cast most of the model's weights before it begins, and hold all of them.
   */
  matrix(name: string, shape: readonly number[], input: string, type: ComputeType): { readonly value: string; readonly scale: number } {
    const stored = this.initializer(name, this.checkpoint.matrix(name, shape), shape)
    // Gemm's alpha is applied in the type of the product. In float16 the factor would be rounded, so there it is applied to the weight.
    const { scale, left } = type === 'float32' ? { scale: 1, left: stored.scale } : { scale: stored.scale, left: 1 }
    const cast = (value: string) => this.scaled({ ...stored, value, scale }, type)
    if (this.weights === 'packed') return { value: this.once(`matrix ${name} ${type}`, () => cast(stored.value)), scale: left }
    if (stored.type === type) return { value: stored.value, scale: left }
    const none = this.node('Mul', [this.node('Shape', [input], { start: 0, end: 1 }), this.int64s(0)])
    const late = this.node('Reshape', [stored.value, this.node('Add', [this.int64s(...shape), none])])
    return { value: cast(late), scale: left }
  }

  /** A stored weight in the given type, multiplied by its factor in float32. */
  scaled({ value, type: stored, scale }: StoredWeight, type: ComputeType): string {
    if (scale === 1) return this.cast(value, stored, type)
    return this.cast(this.node('Mul', [this.cast(value, stored, 'float32'), this.scalar(scale, 'float32')]), 'float32', type)
  }

  /** Returns the value that `write` made when this key was first used. */
  once(key: string, write: () => string): string {
    const ready = this.ready.get(key) ?? write()
    this.ready.set(key, ready)
    return ready
  }
}

/** A weight in the graph, in the type in which it is stored. */
interface StoredWeight {
  readonly value: string
  readonly type: ElementType
  /** The factor by which it must still be multiplied. */
  readonly scale: number
}
