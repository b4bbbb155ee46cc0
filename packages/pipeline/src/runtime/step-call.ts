/**
 * What a run asks of the batcher for one step: its rows, and how many of them have run.
 *
 * Invariant: all rows of a call have the same dims. Knows nothing about who shares a step with them or when it runs. Runs in the engine
 * process.
 */
import type { LoraLayers } from '../tensor/lora.ts'
import type { RowDims } from '../tensor/packed-rows.ts'
import { equalDims } from '../tensor/tensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { WaitingCall } from './batch-policy.ts'
import type { RowInput } from './row-buffers.ts'
import { sizeOf } from './row-size.ts'
import type { StepGraph } from './step-graph.ts'

/** One row of a call. Rows may share memory: the latents of a guided pair, or a prompt that several pictures or requests use. */
export interface StepRow {
  /** (1, in_channels, height / 8, width / 8) */
  readonly hiddenStates: Tensor
  /** 0 to 1000. */
  readonly timestep: number
  /** (1, sequence, joint_attention_dim) */
  readonly encoderHiddenStates: Tensor
  /** (1, pooled_projection_dim) */
  readonly pooledProjections: Tensor
  /** (layers,): 0 for each layer that this row skips, else 1; only for a graph that takes a mask. Default: no layer is skipped. */
  readonly layerMask?: Float32Array | undefined
  /** What the row adds to the model's layers, the same for all rows of a call; only for a graph that supports it. Default nothing. */
  readonly lora?: LoraLayers | undefined
}

/** What the batcher may know about the request behind a call. Where it is given, the embeddings must not be written to while the request runs. */
export interface StepContext {
  /** When the request arrived, on the clock of performance.now(). */
  readonly arrivedAtMs: number
  /** How many rows the request still has to run, including those of this call. */
  readonly remainingRows: number
  /** When it aborts, the call is dropped before the next step and rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** The owner of the request. Default: all requests without one belong to one owner. */
  readonly owner?: RowOwner | undefined
  /** Called after every run with the request's part of its time, in proportion to its rows, in milliseconds. */
  readonly onServed?: ((deviceMs: number) => void) | undefined
}

export interface RowOwner {
  readonly name: string
  /** The owner's relative share of the device when several owners have rows waiting, above 0. */
  readonly weight: number
}

export interface StepCall extends WaitingCall {
  /** The key of its step times and its buffers. */
  readonly size: string
  readonly input: readonly StepRow[]
  readonly context: StepContext | undefined
  readonly dims: RowDims
  readonly cameAtMs: number
  /** Rows that have already run while others still wait, in order, copied to memory that is not reused. */
  readonly earlier: FinishedRow[]
  remainingMs: number
  stepMs: number
  servedMs: number
  /** Whether a run of a single row of it has already found no memory once. */
  foundNoMemory: boolean
  /** The rows that wait; those before them have run. */
  rows: number
  settled: boolean
  /** Makes the call's result from the predictions of all its rows; see StepBatcher.forward. */
  readonly read: PredictionReader<unknown>
  resolve(result: unknown): void
  reject(reason: unknown): void
}

/** A row after its run; both tensors are (1, in_channels, height / 8, width / 8). */
export interface FinishedRow {
  readonly prediction: Tensor
  /** The row's hidden states as the graph read them; for a row of an earlier run, those that came with the call. */
  readonly latents: Tensor
}

/** Gets both tensors of every row, in memory that is overwritten after this returns, so it must not be asynchronous. */
export type PredictionReader<T> = (predictions: readonly Tensor[], latents: readonly Tensor[]) => T

export interface StepCallOptions extends Pick<StepCall, 'context' | 'read' | 'resolve' | 'reject'> {
  /** The number of calls that came before this one. */
  readonly order: number
}

export function createStepCall(graph: StepGraph, input: readonly StepRow[], { context, order, ...settle }: StepCallOptions): StepCall {
  const [first] = input
  if (first === undefined) throw new RangeError('Expected at least one row, got none')
  for (const row of input) assertFits(row, first, graph.layers)
  const rows = input.length
  const [, channels = 0, height = 0, width = 0] = first.hiddenStates.dims
  const [, tokens = 0, tokenWidth = 0] = first.encoderHiddenStates.dims
  const cameAtMs = performance.now()
  const dims = { latents: [channels, height, width], embeds: [tokens, tokenWidth] }
  // Rows with additions run on a graph of their own, which takes longer.
  const size = first.lora === undefined ? sizeOf(dims) : `${sizeOf(dims)}+lora`
  return {
    input,
    context,
    dims,
    rows,
    size,
    shape: graph.takesOneTimestep ? `${size}@${first.timestep}` : size,
    order,
    arrivedAtMs: context?.arrivedAtMs ?? cameAtMs,
    remainingMs: 0,
    stepMs: 0,
    servedMs: 0,
    owner: context?.owner?.name ?? '',
    weight: context?.owner?.weight ?? 1,
    cameAtMs,
    earlier: [],
    foundNoMemory: false,
    settled: false,
    ...settle,
  }
}

function assertFits(row: StepRow, first: StepRow, layers: number | undefined): void {
  for (const name of ['hiddenStates', 'encoderHiddenStates', 'pooledProjections'] as const) {
    const { dims } = row[name]
    const expected = first[name].dims
    if (dims[0] !== 1) throw new RangeError(`Expected ${name} of one row, got dims [${dims.join(', ')}]`)
    if (!equalDims(dims, expected))
      throw new RangeError(`Expected ${name} of dims [${expected.join(', ')}], as in the first row, got [${dims.join(', ')}]`)
  }
  if (row.lora !== first.lora) throw new RangeError('Expected the same lora in all rows of a call, got two')
  const masked = row.layerMask?.length
  if (masked === undefined || masked === layers) return
  throw new RangeError(`Expected layerMask of ${layers ?? 'no'} layers, as the graph has it, got one of ${masked}`)
}

/** The inputs of the next `count` rows of a call. */
export function nextRows({ input, context, rows }: StepCall, count: number): RowInput[] {
  const start = input.length - rows
  return input.slice(start, start + count).map((row) => ({
    latents: row.hiddenStates.values,
    timestep: row.timestep,
    embeds: row.encoderHiddenStates.data,
    pooled: row.pooledProjections.data,
    layerMask: row.layerMask,
    lora: row.lora,
    keepsPrompt: context !== undefined,
  }))
}

/** Takes the predictions of a call's next rows. Those of the last rows finish the call, which reads them at once. */
export function takePredictions(call: StepCall, rows: readonly FinishedRow[]): void {
  call.rows -= rows.length
  if (call.rows > 0) {
    for (const { prediction } of rows) {
      const { hiddenStates } = call.input[call.earlier.length] as StepRow
      call.earlier.push({ prediction: prediction.clone(), latents: hiddenStates })
    }
    return
  }
  call.settled = true
  const all = [...call.earlier, ...rows]
  try {
    call.resolve(
      call.read(
        all.map(({ prediction }) => prediction),
        all.map(({ latents }) => latents),
      ),
    )
  } catch (error) {
    call.reject(error)
  }
}

/** Ends a call that will get no result. */
export function rejectCall(call: StepCall, reason: unknown): void {
  call.settled = true
  call.reject(reason)
}
