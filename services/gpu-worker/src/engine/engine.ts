/**
 * What the worker sees of the engine: calls go in, pictures come out. Runs in the worker's main process. Knows nothing about jobs,
 * Redis or how the engine keeps itself alive.
 */
import type { UsedLora } from '@easel/pipeline'
import type {
  CallOwner,
  Checkpoint,
  EngineCapabilities,
  EngineErrorCode,
  EngineImage,
  EngineParams,
  EngineStats,
  EngineTimings,
} from './protocol.ts'

export interface Engine {
  /** Of the model as it was loaded first; every restart loads the same. */
  readonly capabilities: EngineCapabilities
  /** `id`: of no other call that runs. Rejects with an EngineError, and with nothing else. */
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
  /** What the call is for, told with what happens to the process under it. Default: its id. */
  about?: string
  /** Called after every step. */
  onProgress?: (step: number, total: number) => void
  /** Steps between previews; undefined: none. */
  previewEvery?: number | undefined
  onPreview?: (step: number, image: EngineImage) => void
  /** Ends the call before its next step; it then rejects with `canceled`. */
  signal?: AbortSignal
  /** Whose call it is. Default: one owner for all calls that do not say. */
  owner?: CallOwner
  resume?: Checkpoint | undefined
  /** Run with no other call in the engine, so that a crash can be laid at its door. Default false. */
  exclusive?: boolean
  /** Run in a process that was started after this one: an error's `processNumber`. Default: whichever runs. */
  newerThan?: number | undefined
}

export interface EngineResult {
  /** In order of their index. */
  readonly images: readonly EngineImage[]
  readonly loras: readonly UsedLora[]
  readonly timings: EngineTimings
}

export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode
  /** Whether this was the only call in the engine when it ended. */
  readonly alone: boolean
  /** Whether no other call was ever in the process: a new one would give it no more memory. */
  readonly first: boolean
  /** Which process of the engine it was in, counted from 1; 0: in none. */
  readonly processNumber: number

  constructor(code: EngineErrorCode, message: string, { alone = false, first = false, processNumber = 0 } = {}) {
    super(message)
    this.code = code
    this.alone = alone
    this.first = first
    this.processNumber = processNumber
  }

  /** Whether the engine process died under the call, which says nothing yet about the call itself. */
  get isCrash(): boolean {
    return this.code === 'engine_crashed' || this.code === 'engine_hung'
  }
}
