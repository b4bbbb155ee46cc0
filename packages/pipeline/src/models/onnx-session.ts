/**
 * One ONNX graph, ready to run.
 *
 * Owns the native session and every conversion at its edge: feeds are cast to the type and rank the graph declares (exports
 * differ: int32 or int64 ids, float16 floats, a scalar timestep), outputs come back as Tensors.
 * Invariant: release() waits for runs that were asked for before, and nothing runs after it. A session that is not to be kept open is closed
 * once a run is over and the caller has its result, and is opened again for the next run.
 * Knows nothing about what a graph computes, and does not wait for the device: whoever runs a graph holds the turn. The native run blocks the
 * thread it is on, so this runs in the engine process.
 */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { toFloat16Bits } from '../tensor/float16.ts'
import { numelOf, Tensor } from '../tensor/tensor.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import { ClosedError } from './closed-error.ts'
import { sizeOfFile } from './model-file.ts'
import { loadRuntime } from './onnx-runtime.ts'
import type { OnnxRuntime } from './onnx-runtime.ts'
import { toSessionOptions } from './session-options.ts'
import type { OnnxSessionOptions, WrittenGraph } from './session-options.ts'

/** An input: floats or token ids with their shape. A Tensor is a Feed. */
export interface Feed {
  /** A Uint16Array holds float16 bits, for inputs of that type. */
  readonly data: Float32Array | Int32Array | Uint16Array
  readonly dims: readonly number[]
}

interface GraphValue {
  readonly name: string
  readonly type: string
  /** Number: fixed length of the axis; string: symbolic name of a free one. */
  readonly shape: readonly (number | string)[]
}

/** The element types that tensors in Node can have and that our models use. */
const inputTypes = ['float32', 'float16', 'int64', 'int32']
const outputTypes = ['float32', 'float16']

export class OnnxSession {
  /** The file the graph came from. */
  readonly path: string
  readonly inputs: ReadonlyMap<string, GraphValue>
  readonly outputs: ReadonlyMap<string, GraphValue>
  /** Undefined once released, and while it is closed between two runs. */
  native: InferenceSession | undefined
  readonly runtime: OnnxRuntime
  /** Opens it again; undefined for a session that stays open. */
  readonly reopen: (() => Promise<InferenceSession>) | undefined
  /** Runs that were asked for and have not finished. */
  readonly running = new Set<Promise<unknown>>()
  isReleased = false

  constructor(path: string, native: InferenceSession, runtime: OnnxRuntime, reopen?: () => Promise<InferenceSession>) {
    this.path = path
    this.native = native
    this.runtime = runtime
    this.reopen = reopen
    this.inputs = graphValues(native.inputMetadata)
    this.outputs = graphValues(native.outputMetadata)
  }

  /**
   * Opens an exported graph by its path, because a buffer is limited to 2 GB and a `model.onnx_data` beside the file is only found by path. A
   * written graph is opened from its bytes, which hold no weights.
   */
  static async load(graph: string | WrittenGraph, options: OnnxSessionOptions = {}): Promise<OnnxSession> {
    const ort = await loadRuntime()
    const path = typeof graph === 'string' ? graph : graph.name
    const open = async (): Promise<InferenceSession> => {
      if (typeof graph !== 'string') await graph.files?.assertSame()
      try {
        if (typeof graph === 'string') await sizeOfFile(graph)
        return typeof graph === 'string'
          ? await ort.InferenceSession.create(graph, toSessionOptions(options))
          : await ort.InferenceSession.create(graph.bytes, toSessionOptions(options, graph))
      } catch (error) {
        throw new Error(`Expected ${path} to load on ${options.provider ?? 'cpu'}, got: ${messageOf(error)}`, { cause: error })
      }
    }
    const isKept = typeof graph === 'string' || graph.betweenRuns === 'open'
    const session = new OnnxSession(path, await open(), ort, isKept ? undefined : open)
    try {
      assertValues(path, 'input', options.inputs ?? [], session.inputs, inputTypes)
      assertValues(path, 'output', options.outputs ?? [], session.outputs, outputTypes)
    } catch (error) {
      await session.release()
      throw error
    }
    await session.rest()
    return session
  }

  /** The precision of a float input. */
  inputDtype(name: string): TensorDtype {
    return this.inputs.get(name)?.type === 'float16' ? 'float16' : 'float32'
  }

  /**
   * Runs the graph and blocks the thread until it is done.
   * `outputDims` names the outputs whose shape the caller knows: those are written straight into a buffer made here.
   */
  async run(
    feeds: Readonly<Record<string, Feed>>,
    outputNames: readonly string[],
    outputDims: Readonly<Record<string, readonly number[]>> = {},
  ): Promise<Record<string, Tensor>> {
    const buffers: Record<string, OrtTensor> = {}
    for (const name of outputNames) {
      const dims = outputDims[name]
      if (dims !== undefined) buffers[name] = this.toOutputBuffer(name, dims)
    }
    const results = await this.track(this.runNative(feeds, outputNames, buffers))
    const outputs: Record<string, Tensor> = {}
    // The runtime fills the given buffer in place and returns another copy of it, so the buffer is what to read.
    for (const name of outputNames) outputs[name] = this.toTensor(name, buffers[name] ?? results[name])
    return outputs
  }

  /**
   * Runs the graph into memory the caller owns: `output` holds values of the graph's type, a Float32Array or float16 bits.
   */
  async runInto(
    feeds: Readonly<Record<string, Feed>>,
    output: { readonly name: string; readonly data: Float32Array | Uint16Array; readonly dims: readonly number[] },
  ): Promise<void> {
    const { name, data, dims } = output
    const tensor =
      data instanceof Float32Array ? new this.runtime.Tensor('float32', data, dims) : new this.runtime.Tensor('float16', data, dims)
    await this.track(this.runNative(feeds, [name], { [name]: tensor }))
  }

  async runNative(
    feeds: Readonly<Record<string, Feed>>,
    outputNames: readonly string[],
    buffers: Readonly<Record<string, OrtTensor>>,
  ): Promise<Readonly<Record<string, OrtTensor>>> {
    if (this.isReleased) throw new ClosedError(`Expected an open session of ${this.path}, got one that has been closed`)
    const native = this.native ?? (await this.openAgain())
    const ortFeeds: Record<string, OrtTensor> = {}
    for (const [name, feed] of Object.entries(feeds)) ortFeeds[name] = this.toOrtTensor(name, feed)
    try {
      return await native.run(ortFeeds, Object.fromEntries(outputNames.map((name) => [name, buffers[name] ?? null])))
    } catch (error) {
      if (this.isReleased) throw new ClosedError(`Expected an open session of ${this.path}, got one closed during the run`)
      throw new Error(`Expected ${this.path} to run with ${describeFeeds(feeds)}, got: ${messageOf(error)}`, { cause: error })
    }
  }

  async openAgain(): Promise<InferenceSession> {
    if (this.reopen === undefined) throw new Error(`Expected the session of ${this.path} to be open, got a closed one`)
    const native = await this.reopen()
    // Two runs that were asked for at the same time have opened it twice.
    if (this.native !== undefined) await native.release()
    return (this.native ??= native)
  }

  /** Closes it until the next run, if it is that kind of session and nothing is running. */
  async rest(): Promise<void> {
    const { native } = this
    if (this.reopen === undefined || this.running.size > 0 || native === undefined) return
    this.native = undefined
    await native.release()
  }

  /** A warning, not an error: the run is over and its result is good. */
  warnNotClosed(error: unknown): void {
    process.emitWarning(`Expected ${this.path} to close after its run, got: ${messageOf(error)}; its memory may be lost`)
  }

  async track<T>(run: Promise<T>): Promise<T> {
    this.running.add(run)
    try {
      return await run
    } finally {
      this.running.delete(run)
      // Not at once, because the caller measures the memory that the run has taken when it gets the result.
      if (this.reopen !== undefined) setImmediate(() => void this.rest().catch((error: unknown) => this.warnNotClosed(error)))
    }
  }

  /** Frees the weights after the runs that have begun. Calling it twice is harmless; later runs fail with ClosedError. */
  async release(): Promise<void> {
    if (this.isReleased) return
    this.isReleased = true
    await Promise.allSettled(this.running)
    const { native } = this
    this.native = undefined
    await native?.release()
  }

  toOrtTensor(name: string, feed: Feed): OrtTensor {
    const input = this.inputs.get(name)
    if (input === undefined) throw new Error(`Expected an input of ${this.path} (${[...this.inputs.keys()].join(', ')}), got "${name}"`)
    const dims = this.toRank(input, feed)
    const data = dims.length === 0 && feed.data.length > 1 ? feed.data.subarray(0, 1) : feed.data
    switch (input.type) {
      case 'float32':
        if (data instanceof Uint16Array) throw new Error(`Expected floats for input "${name}" of ${this.path}, got float16 bits`)
        return new this.runtime.Tensor('float32', data instanceof Float32Array ? data : Float32Array.from(data), dims)
      case 'float16':
        return new this.runtime.Tensor('float16', toBits(data), dims)
      case 'int64':
        return new this.runtime.Tensor(
          'int64',
          BigInt64Array.from(data, (value) => BigInt(Math.trunc(value))),
          dims,
        )
      case 'int32':
        return new this.runtime.Tensor('int32', data instanceof Int32Array ? data : Int32Array.from(data), dims)
      default:
        throw new Error(`Expected input "${name}" of ${this.path} to be float32, float16, int64 or int32, got ${input.type}`)
    }
  }

  /** The feed's dims in the rank that the graph declares: [1] becomes a scalar where one is declared, and a scalar becomes [1]. */
  toRank(input: GraphValue, feed: Feed): readonly number[] {
    const rank = input.shape.length
    if (feed.dims.length === rank) return feed.dims
    if (rank === 0 && feed.data.length > 0 && feed.data.every((value) => value === feed.data[0])) return []
    if (rank === 1 && feed.dims.length === 0) return [1]
    throw new Error(
      `Expected input "${input.name}" of ${this.path} with shape [${input.shape.join(', ')}], got [${feed.dims.join(', ')}]` +
        (rank === 0 ? ' of different values' : ''),
    )
  }

  toOutputBuffer(name: string, dims: readonly number[]): OrtTensor {
    const type = this.outputs.get(name)?.type
    if (type === 'float32') return new this.runtime.Tensor('float32', new Float32Array(numelOf(dims)), dims)
    if (type === 'float16') return new this.runtime.Tensor('float16', new Uint16Array(numelOf(dims)), dims)
    throw new Error(`Expected output "${name}" of ${this.path} to be float32 or float16, got ${type ?? 'no such output'}`)
  }

  toTensor(name: string, output: OrtTensor | undefined): Tensor {
    const data = output?.data
    if (output !== undefined && data instanceof Float32Array) return new Tensor(data, output.dims)
    if (output !== undefined && data instanceof Uint16Array) return new Tensor(data, output.dims, 'float16')
    throw new Error(`Expected output "${name}" of ${this.path} to be float32 or float16, got ${output?.type ?? 'nothing'}`)
  }
}

function toBits(data: Feed['data']): Uint16Array {
  if (data instanceof Uint16Array) return data
  return toFloat16Bits(data instanceof Float32Array ? data : Float32Array.from(data))
}

function graphValues(metadata: readonly InferenceSession.ValueMetadata[]): Map<string, GraphValue> {
  return new Map(
    metadata.map((value) => [
      value.name,
      value.isTensor ? { name: value.name, type: value.type, shape: value.shape } : { name: value.name, type: 'no tensor', shape: [] },
    ]),
  )
}

/** Refuses a graph that lacks a value we will use, or declares one with a type that would fail in every run. */
function assertValues(
  path: string,
  kind: string,
  names: readonly string[],
  found: ReadonlyMap<string, GraphValue>,
  types: readonly string[],
): void {
  const missing = names.filter((name) => !found.has(name))
  if (missing.length > 0) throw new Error(`Expected ${path} to have the ${kind} ${missing.join(', ')}, got ${[...found.keys()].join(', ')}`)
  for (const name of names) {
    const type = found.get(name)?.type ?? 'nothing'
    if (!types.includes(type)) throw new Error(`Expected ${kind} "${name}" of ${path} to be ${types.join(', ')}, got ${type}`)
  }
}

function describeFeeds(feeds: Readonly<Record<string, Feed>>): string {
  return Object.entries(feeds)
    .map(([name, feed]) => `${name} [${feed.dims.join(', ')}]`)
    .join(', ')
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
