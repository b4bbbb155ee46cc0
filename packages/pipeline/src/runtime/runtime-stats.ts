/**
 * What the runtime has done, in numbers: counted as steps happen, read by whoever reports them.
 *
 * Invariant: counting costs a few additions a step and keeps nothing that grows. Knows nothing about requests or metrics formats.
 * Runs in the engine process.
 */
import type { StepTimes } from './batch-profile.ts'
import type { MemoryStats } from './memory-admission.ts'
import type { EncodingCacheStats } from './encoding-cache.ts'
import type { StepBatcher, StepRecord } from './step-batcher.ts'

export interface RuntimeStats {
  /** Number of transformer runs so far, and of their rows. */
  readonly steps: number
  readonly rows: number
  /** How many milliseconds they took, and how many of these were inside ONNX Runtime. */
  readonly stepMs: number
  readonly runMs: number
  /** For each step the longest wait of any of its calls, summed over all steps, in milliseconds. */
  readonly waitMs: number
  /** The latest run; undefined before the first. */
  readonly lastStep: StepRecord | undefined
  /** The calls and rows that are waiting now. */
  readonly waitingCalls: number
  readonly waitingRows: number
  /** The device time that the rows would have taken one by one, divided by what they took; 1 until single rows have been measured. */
  readonly batchingGain: number
  /** The time of a step in milliseconds, by size ("latent sides + tokens") and number of rows. */
  readonly stepTimes: Record<string, StepTimes>
  /** The most rows that a step has, by size: the measured knee. Absent while more rows still made a row cheaper. */
  readonly knees: Record<string, number>
  /** Milliseconds spent in encoding texts and pictures and in decoding so far, without the wait for a turn. */
  readonly encodeMs: number
  readonly decodeMs: number
  readonly promptCache: EncodingCacheStats
  readonly pictureCache: EncodingCacheStats
  readonly memory: MemoryStats
  /** How many times memory has run out. */
  readonly shortages: number
}

export class RuntimeCounters {
  readonly batcher: StepBatcher
  steps = 0
  rows = 0
  stepMs = 0
  runMs = 0
  waitMs = 0
  encodeMs = 0
  decodeMs = 0
  shortages = 0
  lastStep: StepRecord | undefined
  /** Total time of the steps whose size has been measured with one row, and what their rows would have taken alone, in milliseconds. */
  comparedMs = 0
  aloneMs = 0

  constructor(batcher: StepBatcher) {
    this.batcher = batcher
  }

  count(record: StepRecord): void {
    this.steps++
    this.rows += record.rows
    this.stepMs += record.durationMs
    this.runMs += record.runMs
    this.waitMs += record.waitMs
    this.lastStep = record
    const aloneMs = this.batcher.profile.stepMs(record.size, 1)
    if (aloneMs === undefined) return
    this.comparedMs += record.durationMs
    this.aloneMs += aloneMs * record.rows
  }

  toStats(caches: Pick<RuntimeStats, 'promptCache' | 'pictureCache'>, memory: MemoryStats): RuntimeStats {
    const { steps, rows, stepMs, runMs, waitMs, encodeMs, decodeMs, shortages, lastStep, batcher } = this
    const { profile, waiting } = batcher
    const stepTimes = profile.toTimes()
    const knees = Object.keys(stepTimes).map((size): [string, number] => [size, profile.knee(size)])
    return {
      steps,
      rows,
      stepMs,
      runMs,
      waitMs,
      lastStep,
      waitingCalls: waiting.length,
      waitingRows: waiting.reduce((sum, call) => sum + call.rows, 0),
      batchingGain: this.comparedMs === 0 ? 1 : this.aloneMs / this.comparedMs,
      stepTimes,
      knees: Object.fromEntries(knees.filter(([, knee]) => Number.isFinite(knee))),
      encodeMs,
      decodeMs,
      ...caches,
      memory,
      shortages,
    }
  }
}
