/**
 * What the worker sees of the engine: calls go in, pictures come out. Runs in the worker's main process. Knows nothing about jobs,
 * Redis or how the engine keeps itself alive.
 */
import type { Checkpoint, EngineCapabilities, EngineErrorCode, EngineImage, EngineParams, EngineStats, EngineTimings } from './protocol.ts'

export interface Engine {
  /** Of the model as it was loaded first; every restart loads the same. */
  readonly capabilities: EngineCapabilities
  /** Rejects with an EngineError, and with nothing else. */
  generate(id: string, params: EngineParams, options?: EngineCallOptions): Promise<EngineResult>
  /** Where a running call could go on elsewhere; undefined when it has not begun its steps. */
  checkpoint(id: string): Promise<Checkpoint | undefined>
  stats(): Promise<EngineStats>
  /** How often the process had to be started again. */
  readonly restarts: number
  /** How often the process was replaced on purpose, between calls, because of its memory. */
  readonly recycles: number
  /** Ends the process; calls still running reject with `closed`. */
  close(): Promise<void>
}

export interface EngineCallOptions {
  /** Called after every step. */
  onProgress?: (step: number, total: number) => void
  /** Steps between previews; absent: none. */
  previewEvery?: number
  onPreview?: (step: number, image: EngineImage) => void
  /** Ends the call before its next step; it then rejects with `canceled`. */
  signal?: AbortSignal
  resume?: Checkpoint
  /** Run with no other call in the engine, so that a crash can be laid at its door. Default false. */
  exclusive?: boolean
  /** Run exclusively, in a process that has run nothing before: the most memory there is. Default false. */
  fresh?: boolean
}

export interface EngineResult {
  /** In order of their index. */
  readonly images: readonly EngineImage[]
  readonly timings: EngineTimings
}

export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode
  /** For engine_crashed and engine_hung: whether this was the only call in the engine. */
  readonly alone: boolean

  constructor(code: EngineErrorCode, message: string, alone = false) {
    super(message)
    this.code = code
    this.alone = alone
  }

  /** Whether the engine process died under the call, which says nothing yet about the call itself. */
  get isCrash(): boolean {
    return this.code === 'engine_crashed' || this.code === 'engine_hung'
  }
}
