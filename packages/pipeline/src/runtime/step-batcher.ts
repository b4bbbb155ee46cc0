/**
 * Continuous batching: the rows of all requests share the transformer's runs, whatever step each request is at.
 *
 * A call is one request's rows at one step: its pictures, once with the prompt and, with guidance, once without. It goes through
 *
 *     waiting ──step()──► running ──all rows done──► resolved
 *        │  ▲                │
 *        │  └─ rows left ────┤ the runtime runs out of memory: fewer rows, one row once more
 *        └─ aborted ─────────┴─ the run fails: rejected
 *
 * `forward` adds a call to those waiting and asks the device for a turn. When the turn comes, `step` drops what was aborted, lets the policy
 * choose rows that fit together, runs them at once, and hands each call its part. A call whose rows are all done resolves; its request works
 * out its next latents and comes back with its next call before the next turn. So requests join at any step and leave when they are done.
 *
 * Invariant: a row comes out as it would alone, whoever runs beside it; a step runs only rows that are still wanted.
 * Knows nothing about prompts, guidance, schedulers or sessions: rows in, rows out. Runs in the engine process.
 */
import { concatRows } from '../tensor/rows.ts'
import { equalDims, Tensor } from '../tensor/tensor.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import { batchPolicies, selectBatch } from './batch-policy.ts'
import type { BatchPolicy, BatchPolicyName, BatchShare, WaitingCall } from './batch-policy.ts'
import { BatchProfile } from './batch-profile.ts'
import { deviceQueue } from './device-queue.ts'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'
import { RowBuffers } from './row-buffers.ts'
import type { PackedRows, RowInput } from './row-buffers.ts'

export interface StepBatcherOptions {
  /** Most rows in one run, from 1. Only a limit: how many are good is measured. Default none. */
  readonly maxBatchRows?: number | undefined
  /** Who goes first: 'srpt', shortest remaining work with ageing, or 'fcfs', first come first served. Default 'srpt'. */
  readonly policy?: BatchPolicyName | undefined
}

/** The graph that runs packed rows. */
export interface StepRunner {
  /** Precision of its inputs and output. */
  readonly dtype: TensorDtype
  /** True for an export with one timestep for the whole batch: only rows of one timestep fit together. */
  readonly takesOneTimestep: boolean
  /** Length of the batch axis where the export fixes it: 1, as nothing else serves any number of rows. */
  readonly fixedRows: number | undefined
  /** Runs at once, in the turn the batcher holds; the result lies in `packed.output`. `dims`: of one row of latents and of embeddings. */
  run(packed: PackedRows, dims: RowDims): Promise<void>
}

export interface RowDims {
  /** [in_channels, height / 8, width / 8] */
  readonly latents: readonly number[]
  /** [tokens, joint_attention_dim] */
  readonly embeds: readonly number[]
}

/** One row of a call. Rows may show the same memory: latents with and without guidance, a prompt of several pictures or requests. */
export interface StepRow {
  /** (1, in_channels, height / 8, width / 8) */
  readonly hiddenStates: Tensor
  /** 0 to 1000. */
  readonly timestep: number
  /** (1, sequence, joint_attention_dim) */
  readonly encoderHiddenStates: Tensor
  /** (1, pooled_projection_dim) */
  readonly pooledProjections: Tensor
}

/** What the batcher may know of the request behind a call. With it, embeddings must not be written to while the request runs. */
export interface StepContext {
  /** When the request came, on the clock of performance.now(). */
  readonly arrivedAtMs: number
  /** Rows the request still has to run, those of this call included. */
  readonly remainingRows: number
  /** Drops the call before the next run; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** One run, for whoever watches. */
export interface StepRecord {
  /** 'latent sides + tokens', as in "16x16+40". */
  readonly size: string
  readonly rows: number
  /** Calls that took part. */
  readonly calls: number
  /** Milliseconds from packing to the last row handed out. */
  readonly durationMs: number
  /** Milliseconds of these inside the runtime. */
  readonly runMs: number
  /** Longest wait of a call in this step since it came, milliseconds. */
  readonly waitMs: number
  /** Rows that stayed waiting. */
  readonly rowsLeft: number
}

interface StepCall extends WaitingCall {
  /** Key of its times and buffers: its shape, without what else has to agree. */
  readonly size: string
  readonly input: readonly StepRow[]
  readonly context: StepContext | undefined
  readonly dims: RowDims
  readonly cameAtMs: number
  readonly output: Tensor
  remainingMs: number
  /** A run of it alone has found no memory once. */
  foundNoMemory: boolean
  /** Rows waiting; those before them have run. */
  rows: number
  settled: boolean
  resolve(output: Tensor): void
  reject(reason: unknown): void
}

/** Shapes whose buffers are kept; the longest unused goes first. */
const KEPT_SHAPES = 8

export class StepBatcher {
  readonly runner: StepRunner
  readonly policy: BatchPolicy
  readonly profile: BatchProfile
  readonly buffers = new Map<string, RowBuffers>()
  /** Wraps every run, for whoever measures its memory; `size`: rows × work of a row. */
  aroundRun: (size: number, run: () => Promise<void>) => Promise<void> = (_, run) => run()
  /** Called after every run. */
  onStep: ((record: StepRecord) => void) | undefined
  /** Called when the runtime has run out of memory, before the rows are tried again. */
  onOutOfMemory: (() => void) | undefined
  waiting: StepCall[] = []
  /** A turn has been asked for and not begun. */
  scheduled = false
  calls = 0

  constructor(runner: StepRunner, options: StepBatcherOptions = {}) {
    const { fixedRows } = runner
    if (fixedRows !== undefined && fixedRows !== 1)
      throw new RangeError(`Expected a transformer whose batch axis is free or 1, got ${fixedRows}; export it without a fixed batch size`)
    this.runner = runner
    this.policy = batchPolicies[options.policy ?? 'srpt']
    this.profile = new BatchProfile({ maxRows: Math.min(options.maxBatchRows ?? Infinity, fixedRows ?? Infinity) })
  }

  /** Predicted velocity of each row: (rows, in_channels, height / 8, width / 8). All rows of a call have the same dims. */
  async forward(input: readonly StepRow[], context?: StepContext): Promise<Tensor> {
    if (this.runner.takesOneTimestep && input.some(({ timestep }) => timestep !== input[0]?.timestep))
      return concatRows(await Promise.all(input.map((row) => this.forward([row], context))))
    return new Promise((resolve, reject) => {
      this.waiting.push(this.toCall(input, context, resolve, reject))
      this.schedule()
    })
  }

  schedule(): void {
    if (this.scheduled || this.waiting.length === 0) return
    this.scheduled = true
    void deviceQueue.run('step', () => this.step())
  }

  /** One run of the transformer, for the rows whose turn it is. */
  async step(): Promise<void> {
    this.scheduled = false
    this.dropAborted()
    const batch = this.chooseRows()
    if (batch.length > 0) await this.runRows(batch)
    this.waiting = this.waiting.filter((call) => !call.settled)
    this.schedule()
  }

  dropAborted(): void {
    for (const call of this.waiting)
      if (call.context?.signal?.aborted === true) settle(call, () => call.reject(call.context?.signal?.reason))
    this.waiting = this.waiting.filter((call) => !call.settled)
  }

  chooseRows(): BatchShare<StepCall>[] {
    // Anew for every step: what a row costs is being learnt.
    const rowMs = new Map<string, number>()
    for (const call of this.waiting) {
      if (!rowMs.has(call.size)) rowMs.set(call.size, this.profile.rowMs(call.size, rowSize(call.dims)))
      call.remainingMs = (call.context?.remainingRows ?? call.rows) * (rowMs.get(call.size) as number)
    }
    return selectBatch(this.waiting, this.policy, performance.now(), ({ size }, rows) => this.profile.rowsFor(size, rows))
  }

  /** Packs, runs and unpacks. What goes wrong is the calls' to know. */
  async runRows(batch: readonly BatchShare<StepCall>[]): Promise<void> {
    const startedAt = performance.now()
    const { size, dims } = (batch[0] as BatchShare<StepCall>).call
    const rows = batch.flatMap(({ call, rows }) => nextRows(call, rows))
    let runMs: number
    try {
      const buffers = this.buffersFor(size)
      const { packed, places } = buffers.pack(rows.map(({ input }) => input))
      const runAt = performance.now()
      await this.aroundRun(rows.length * rowSize(dims), () => this.runner.run(packed, dims))
      runMs = performance.now() - runAt
      for (const [index, { target }] of rows.entries()) buffers.unpack(places[index] as number, target)
      for (const { call, rows } of batch) {
        call.rows -= rows
        if (call.rows === 0) settle(call, () => call.resolve(call.output))
      }
    } catch (error) {
      this.recover(batch, rows.length, error)
      return
    }
    const durationMs = performance.now() - startedAt
    this.profile.observe(size, rows.length, durationMs)
    const waitMs = startedAt - Math.min(...batch.map(({ call }) => call.cameAtMs))
    const rowsLeft = this.waiting.reduce((sum, call) => sum + call.rows, 0)
    try {
      this.onStep?.({ size, rows: rows.length, calls: batch.length, durationMs, runMs, waitMs, rowsLeft })
    } catch (error) {
      // Who watches must not stop the work.
      process.emitWarning(error instanceof Error ? error : String(error))
    }
  }

  /**
   * Out of memory: with many rows fewer for a while, and these are tried again; with one row once more, as memory has been given back.
   * Anything else is the end of the calls.
   */
  recover(batch: readonly BatchShare<StepCall>[], rows: number, error: unknown): void {
    let reason = error
    if (isOutOfMemory(error)) {
      const { call } = batch[0] as BatchShare<StepCall>
      this.buffers.clear()
      this.onOutOfMemory?.()
      this.profile.observeShortage(call.size, rows)
      if (rows > 1 || !call.foundNoMemory) {
        call.foundNoMemory = rows === 1
        return
      }
      reason = new OutOfMemoryError('a step of one row', { cause: error })
    }
    for (const { call } of batch) settle(call, () => call.reject(reason))
  }

  buffersFor(size: string): RowBuffers {
    const buffers = this.buffers.get(size) ?? new RowBuffers(this.runner.dtype)
    // Set again at the end, so that the first is the longest unused.
    this.buffers.delete(size)
    this.buffers.set(size, buffers)
    for (const oldest of this.buffers.keys()) if (this.buffers.size > KEPT_SHAPES) this.buffers.delete(oldest)
    return buffers
  }

  toCall(input: readonly StepRow[], context: StepContext | undefined, resolve: StepCall['resolve'], reject: StepCall['reject']): StepCall {
    const [first] = input
    if (first === undefined) throw new RangeError('Expected at least one row, got none')
    for (const row of input) assertSameDims(row, first)
    const rows = input.length
    const [, channels = 0, height = 0, width = 0] = first.hiddenStates.dims
    const [, tokens = 0, tokenWidth = 0] = first.encoderHiddenStates.dims
    const cameAtMs = performance.now()
    const dims = { latents: [channels, height, width], embeds: [tokens, tokenWidth] }
    const size = sizeKey(dims)
    return {
      input,
      context,
      dims,
      rows,
      size,
      shape: this.runner.takesOneTimestep ? `${size}@${first.timestep}` : size,
      order: this.calls++,
      arrivedAtMs: context?.arrivedAtMs ?? cameAtMs,
      remainingMs: 0,
      cameAtMs,
      output: new Tensor(new Float32Array(rows * first.hiddenStates.numel), [rows, channels, height, width], this.runner.dtype),
      foundNoMemory: false,
      settled: false,
      resolve,
      reject,
    }
  }
}

/** 'latent sides + tokens', as in "16x16+40": rows of one key take equally long. */
export function sizeKey({ latents, embeds }: RowDims): string {
  return `${latents[1]}x${latents[2]}+${embeds[0]}`
}

/** Work of a row, for comparing sizes: latent pixels and text tokens. */
export function rowSize({ latents, embeds }: RowDims): number {
  return (latents[1] as number) * (latents[2] as number) + (embeds[0] as number)
}

function assertSameDims(row: StepRow, first: StepRow): void {
  for (const name of ['hiddenStates', 'encoderHiddenStates', 'pooledProjections'] as const) {
    const { dims } = row[name]
    const expected = first[name].dims
    if (dims[0] !== 1) throw new RangeError(`Expected ${name} of one row, got dims [${dims.join(', ')}]`)
    if (!equalDims(dims, expected))
      throw new RangeError(`Expected ${name} of dims [${expected.join(', ')}], as in the first row, got [${dims.join(', ')}]`)
  }
}

/** The next `count` rows of a call: what goes in, and where the result belongs. */
function nextRows({ input, context, output, rows }: StepCall, count: number): { input: RowInput; target: Float32Array }[] {
  const length = output.numel / input.length
  const start = input.length - rows
  return input.slice(start, start + count).map(({ hiddenStates, timestep, encoderHiddenStates, pooledProjections }, offset) => ({
    input: {
      latents: hiddenStates.data,
      timestep,
      embeds: encoderHiddenStates.data,
      pooled: pooledProjections.data,
      keepsPrompt: context !== undefined,
    },
    target: output.data.subarray((start + offset) * length, (start + offset + 1) * length),
  }))
}

function settle(call: StepCall, how: () => void): void {
  call.settled = true
  how()
}
