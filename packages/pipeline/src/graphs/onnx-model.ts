/**
 * Writes a graph as the bytes of an ONNX ModelProto (onnx.proto3 of ONNX 1.17; the numbers are its field numbers).
 *
 * Owns the file format and nothing else: the builder decides what a graph computes.
 */
import { PbfWriter } from 'pbf'

/** TensorProto.DataType. */
export const elementTypes = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e5m2: 19,
} as const

export type ElementType = keyof typeof elementTypes

/** A plain number is an int; a float attribute is written as { float }. */
export type Attribute = number | string | readonly number[] | { readonly float: number }

export interface GraphNode {
  readonly operator: string
  /** The operator's domain; empty for ONNX's own operators. */
  readonly domain: string
  readonly name: string
  /** An empty name leaves an optional input out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
}

/** A constant: either bytes of its own or bytes in a file. */
export interface GraphInitializer {
  readonly name: string
  readonly type: ElementType
  readonly dims: readonly number[]
  readonly data: Uint8Array | { readonly file: string; readonly offset: number; readonly length: number }
}

export interface GraphEdge {
  readonly name: string
  readonly type: ElementType
  /** A string names an axis of any length. */
  readonly dims: readonly (number | string)[]
}

export interface OnnxGraph {
  readonly nodes: readonly GraphNode[]
  readonly initializers: readonly GraphInitializer[]
  readonly inputs: readonly GraphEdge[]
  readonly outputs: readonly GraphEdge[]
}

const irVersion = 10
const opset = 21
const external = 1
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const

/**
 * Weight files are named by their path without the leading slash, and the runtime is set to resolve them from the root of the file system,
 * because it refuses absolute paths, links, and anything outside the folder it starts from.
 */
export function encodeOnnxModel(graph: OnnxGraph): Uint8Array {
  const pbf = new PbfWriter()
  pbf.writeVarintField(1, irVersion)
  pbf.writeStringField(2, 'easel')
  pbf.writeMessage(7, writeGraph, graph)
  pbf.writeMessage(8, writeOpset, { domain: '', version: opset })
  pbf.writeMessage(8, writeOpset, { domain: 'com.microsoft', version: 1 })
  return pbf.finish()
}

function writeOpset({ domain, version }: { domain: string; version: number }, pbf: PbfWriter): void {
  pbf.writeStringField(1, domain)
  pbf.writeVarintField(2, version)
}

function writeGraph({ nodes, initializers, inputs, outputs }: OnnxGraph, pbf: PbfWriter): void {
  for (const node of nodes) pbf.writeMessage(1, writeNode, node)
  pbf.writeStringField(2, 'easel')
  for (const initializer of initializers) pbf.writeMessage(5, writeInitializer, initializer)
  for (const input of inputs) pbf.writeMessage(11, writeEdge, input)
  for (const output of outputs) pbf.writeMessage(12, writeEdge, output)
}

function writeNode({ operator, domain, name, inputs, outputs, attributes }: GraphNode, pbf: PbfWriter): void {
  for (const input of inputs) pbf.writeStringField(1, input)
  for (const output of outputs) pbf.writeStringField(2, output)
  pbf.writeStringField(3, name)
  pbf.writeStringField(4, operator)
  for (const attribute of Object.entries(attributes)) pbf.writeMessage(5, writeAttribute, attribute)
  if (domain !== '') pbf.writeStringField(7, domain)
}

function writeAttribute([name, value]: [string, Attribute], pbf: PbfWriter): void {
  pbf.writeStringField(1, name)
  if (typeof value === 'number') pbf.writeVarintField(3, value)
  else if (typeof value === 'string') pbf.writeStringField(4, value)
  else if ('float' in value) pbf.writeFloatField(2, value.float)
  else for (const each of value) pbf.writeVarintField(8, each)
  pbf.writeVarintField(20, attributeTypes[attributeType(value)])
}

function attributeType(value: Attribute): keyof typeof attributeTypes {
  if (typeof value === 'number') return 'int'
  if (typeof value === 'string') return 'string'
  return 'float' in value ? 'float' : 'ints'
}

function writeInitializer({ name, type, dims, data }: GraphInitializer, pbf: PbfWriter): void {
  for (const length of dims) pbf.writeVarintField(1, length)
  pbf.writeVarintField(2, elementTypes[type])
  pbf.writeStringField(8, name)
  if (data instanceof Uint8Array) {
    pbf.writeBytesField(9, data)
    return
  }
  pbf.writeMessage(13, writeEntry, ['location', data.file.replace(/^\//, '')])
  pbf.writeMessage(13, writeEntry, ['offset', `${data.offset}`])
  pbf.writeMessage(13, writeEntry, ['length', `${data.length}`])
  pbf.writeVarintField(14, external)
}

function writeEntry([key, value]: [string, string], pbf: PbfWriter): void {
  pbf.writeStringField(1, key)
  pbf.writeStringField(2, value)
}

/** ValueInfoProto → TypeProto → its tensor → TensorShapeProto. */
function writeEdge({ name, type, dims }: GraphEdge, pbf: PbfWriter): void {
  pbf.writeStringField(1, name)
  pbf.writeMessage(2, (tensor, pbf) => pbf.writeMessage(1, writeTensorType, tensor), { type, dims })
}

function writeTensorType({ type, dims }: Pick<GraphEdge, 'type' | 'dims'>, pbf: PbfWriter): void {
  pbf.writeVarintField(1, elementTypes[type])
  pbf.writeMessage(2, (dims, pbf) => dims.forEach((length) => pbf.writeMessage(1, writeDim, length)), dims)
}

function writeDim(length: number | string, pbf: PbfWriter): void {
  if (typeof length === 'number') pbf.writeVarintField(1, length)
  else pbf.writeStringField(2, length)
}
