/**
 * Continuous batching: the rows of all requests share the transformer's runs, whatever step each request is at.
 *
 * A call is one request's rows at one step: its pictures, once with the prompt and, with guidance, once more without it. It goes through
 *
 *     waiting ──step()──► running ──all rows done──► resolved
 *        │  ▲                │
 *        │  └─ rows left ────┤ memory runs out: fewer rows; a single row is tried once more
 *        └─ aborted ─────────┴─ the run fails: rejected
 *
 * `forward` adds a call to those that wait and asks the device for a turn. When the turn comes, `step` drops what was aborted, lets the
 * policy choose rows that fit together, runs them at once, and hands each call its part. A call whose rows are all done resolves; its
 * request works out its next latents, reading the graph's own output as it does so, and comes back with its next call before the next turn.
 * So requests join at any step and leave when they are done.
 *
 * Invariant: a row comes out as it would alone, whoever runs beside it; a step runs only rows that are still wanted.
 * Knows nothing about prompts, guidance, schedulers or sessions: rows in, rows out. Runs in the engine process.
 */
import { LRUCache } from 'lru-cache'
import { concatRows } from '../tensor/rows.ts'
import { numelOf, Tensor } from '../tensor/tensor.ts'
import type { TensorValues } from '../tensor/tensor.ts'
import { batchPolicies, selectBatch } from './batch-policy.ts'
import type { BatchPolicy, BatchPolicyName, BatchShare } from './batch-policy.ts'
import { BatchProfile } from './batch-profile.ts'
import { deviceQueue } from './device-queue.ts'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'
import { RowBuffers } from './row-buffers.ts'
import { workOf } from './row-size.ts'
import { ServedTimes } from './served-times.ts'
import { createStepCall, nextRows, rejectCall, takePredictions } from './step-call.ts'
import type { FinishedRow, PredictionReader, StepCall, StepContext, StepRow } from './step-call.ts'
import type { StepGraph } from './step-graph.ts'

export interface StepBatcherOptions {
  /** The most rows in one run, from 1. This is only a limit; the best number is measured. Default none. */
  readonly maxBatchRows?: number | undefined
  /**
   * Who goes first. 'fair': the owner that has had the least device time for its weight; 'srpt': shortest remaining work with ageing; 'fcfs':
   * first come, first served. Default 'fair'.
   */
  readonly policy?: BatchPolicyName | undefined
}

/** One run of the graph, as observers see it. */
export interface StepRecord {
  /** 'latent sides + tokens', as in "16x16+40". */
  readonly size: string
  readonly rows: number
  /** The number of calls whose rows were in it. */
  readonly calls: number
  /** Milliseconds from packing to the end of the run. */
  readonly durationMs: number
  /** How many of these milliseconds were inside ONNX Runtime. */
  readonly runMs: number
  /** The longest wait of a call in this step since it was made, in milliseconds. */
  readonly waitMs: number
  /** The number of rows left waiting. */
  readonly rowsLeft: number
}

/** For how many sizes buffers are kept; the least recently used is dropped first. */
const keptSizes = 8

export class StepBatcher {
  readonly graph: StepGraph
  readonly policy: BatchPolicy
  readonly profile: BatchProfile
  readonly served = new ServedTimes()
  /** By size; the least recently used are dropped. */
  readonly buffers = new LRUCache<string, RowBuffers>({ max: keptSizes })
  /** Wraps every run so that its memory can be measured; `work` is that of all its rows. */
  aroundRun: (work: number, run: () => Promise<void>) => Promise<void> = (_, run) => run()
  /** Called after every run. */
  onStep: ((record: StepRecord) => void) | undefined
  /** Called when memory has run out in a step, before the rows are tried again. */
  onOutOfMemory: (() => void) | undefined
  waiting: StepCall[] = []
  /** Whether a turn has been asked for and has not begun. */
  scheduled = false
  calls = 0

  constructor(graph: StepGraph, options: StepBatcherOptions = {}) {
    const { fixedRows } = graph
    if (fixedRows !== undefined && fixedRows !== 1)
      throw new RangeError(`Expected a transformer whose batch axis is free or 1, got ${fixedRows}; export it without a fixed batch size`)
    this.graph = graph
    this.policy = batchPolicies[options.policy ?? 'fair']
    this.profile = new BatchProfile({ maxRows: Math.min(options.maxBatchRows ?? Infinity, fixedRows ?? Infinity) })
  }

  /**
   * Resolves with what `read` makes of the graph's prediction for each row; without `read` they come as one tensor in memory of its own:
   * (rows, in_channels, height / 8, width / 8). All rows of a call have the same dims.
   */
  forward(input: readonly StepRow[], context?: StepContext): Promise<Tensor>
  forward<T>(input: readonly StepRow[], context: StepContext | undefined, read: PredictionReader<T>): Promise<T>
  async forward(input: readonly StepRow[], context?: StepContext, read: PredictionReader<unknown> = concatRows): Promise<unknown> {
    if (this.graph.takesOneTimestep && input.some(({ timestep }) => timestep !== input[0]?.timestep))
      return read(
        await Promise.all(input.map((row) => this.forward([row], context))),
        input.map(({ hiddenStates }) => hiddenStates),
      )
    return new Promise((resolve, reject) => {
      this.waiting.push(createStepCall(this.graph, input, { context, order: this.calls++, read, resolve, reject }))
      this.schedule()
    })
  }

  schedule(): void {
    if (this.scheduled || this.waiting.length === 0) return
    this.scheduled = true
    void deviceQueue.run('step', () => this.step())
  }

  /** One run of the graph, for the rows whose turn it is. */
  async step(): Promise<void> {
    this.scheduled = false
    this.dropAborted()
    const batch = this.chooseRows()
    if (batch.length > 0) await this.runRows(batch)
    this.waiting = this.waiting.filter((call) => !call.settled)
    this.schedule()
  }

  dropAborted(): void {
    for (const call of this.waiting) if (call.context?.signal?.aborted === true) rejectCall(call, call.context.signal.reason)
    this.waiting = this.waiting.filter((call) => !call.settled)
  }

  chooseRows(): BatchShare<StepCall>[] {
    // Computed for every step, because the cost of a row is still being learnt.
    const rowMs = new Map<string, number>()
    for (const call of this.waiting) {
      if (!rowMs.has(call.size)) rowMs.set(call.size, this.profile.rowMs(call.size, workOf(call.dims)))
      call.remainingMs = (call.context?.remainingRows ?? call.rows) * (rowMs.get(call.size) as number)
      call.stepMs = call.rows * (rowMs.get(call.size) as number)
      call.servedMs = this.served.of(call.owner)
    }
    const batch = selectBatch(this.waiting, this.policy, performance.now(), ({ size }, rows) => this.profile.rowsFor(size, rows))
    if (batch[0] !== undefined) this.served.advance(batch[0].call.owner)
    return batch
  }

  /** Packs the rows, runs them and hands out the predictions. An error of the run goes to the calls whose rows were in it. */
  async runRows(batch: readonly BatchShare<StepCall>[]): Promise<void> {
    const startedAt = performance.now()
    const { size, dims } = (batch[0] as BatchShare<StepCall>).call
    const rows = batch.flatMap(({ call, rows }) => nextRows(call, rows))
    let runMs: number
    let done: FinishedRow[]
    try {
      const buffers = this.buffersFor(size)
      const { packed, places } = buffers.pack(rows)
      const runAt = performance.now()
      await this.aroundRun(rows.length * workOf(dims), () => this.graph.run(packed, dims))
      runMs = performance.now() - runAt
      const rowDims = [1, ...dims.latents]
      const toTensor = (values: TensorValues) => new Tensor(values, rowDims, this.graph.dtype)
      done = places.map((place) => {
        const { latents, output } = buffers.rowAt(place, numelOf(rowDims))
        return { prediction: toTensor(output), latents: toTensor(latents) }
      })
    } catch (error) {
      this.recover(batch, rows.length, error)
      return
    }
    const durationMs = performance.now() - startedAt
    this.profile.observe(size, rows.length, durationMs)
    for (const { call, rows: count } of batch) {
      const deviceMs = (durationMs * count) / rows.length
      this.served.add(call.owner, call.weight, deviceMs)
      call.context?.onServed?.(deviceMs)
    }
    let from = 0
    for (const { call, rows: count } of batch) takePredictions(call, done.slice(from, (from += count)))
    const waitMs = startedAt - Math.min(...batch.map(({ call }) => call.cameAtMs))
    const rowsLeft = this.waiting.reduce((sum, call) => sum + call.rows, 0)
    try {
      this.onStep?.({ size, rows: rows.length, calls: batch.length, durationMs, runMs, waitMs, rowsLeft })
    } catch (error) {
      // An error in a listener must not stop the work.
      process.emitWarning(error instanceof Error ? error : String(error))
    }
  }

  /**
   * When memory runs out, a step with many rows is tried again with fewer, and so are the steps that follow. A single row is tried once more,
   * because memory has been given back meanwhile. Any other error ends the calls.
   */
  recover(batch: readonly BatchShare<StepCall>[], rows: number, error: unknown): void {
    let reason = error
    if (isOutOfMemory(error)) {
      const { call } = batch[0] as BatchShare<StepCall>
      this.dropBuffers()
      this.onOutOfMemory?.()
      this.profile.observeShortage(call.size, rows)
      if (rows > 1 || !call.foundNoMemory) {
        call.foundNoMemory = rows === 1
        return
      }
      reason = new OutOfMemoryError('a step of one row', { cause: error })
    }
    for (const { call } of batch) rejectCall(call, reason)
  }

  /** Gives the memory back between two steps; the next step allocates its own. */
  dropBuffers(): void {
    this.buffers.clear()
  }

  buffersFor(size: string): RowBuffers {
    const kept = this.buffers.get(size)
    if (kept !== undefined) return kept
    const buffers = new RowBuffers(this.graph.dtype, this.graph.layers)
    this.buffers.set(size, buffers)
    return buffers
  }
}
