/**
 * The engine as the worker sees it: calls go in, pictures come out. Runs in the worker's main process. Knows nothing about jobs, Redis or how
 * the engine keeps itself alive.
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
  /** Describes the model as it was last loaded; a restart loads the files as they are then. */
  readonly capabilities: EngineCapabilities
  /** `id` must differ from those of all running calls. Only ever rejects with an EngineError. */
  generate(id: string, params: EngineParams, options?: EngineCallOptions): Promise<EngineResult>
  /** The point from which a running call could continue elsewhere; undefined when it has not begun its steps. */
  checkpoint(id: string): Promise<Checkpoint | undefined>
  stats(): Promise<EngineStats>
  /**
   * sha256 over the model's files, in hex. A model that is new here serves before its hash is known, because every weight has to be read for it.
   * Rejects with an EngineError.
   */
  contentHash(signal?: AbortSignal): Promise<string>
  /** How many times the process had to be restarted. */
  readonly restarts: number
  /** How many times the process was replaced on purpose between calls, because of its memory. */
  readonly recycles: number
  /** Ends the process; calls that are still running reject with `closed`. */
  close(): Promise<void>
}

export interface EngineCallOptions {
  /** What the call is for, as reported in events about its process. Default: its id. */
  about?: string
  /** Called after every step. */
  onProgress?: (step: number, total: number) => void
  /** The number of steps between previews; undefined for none. */
  previewEvery?: number | undefined
  onPreview?: (step: number, image: EngineImage) => void
  /** When it aborts, the call ends before its next step and rejects with `canceled`. */
  signal?: AbortSignal
  /** The owner of the call. Default: all calls without one belong to one owner. */
  owner?: CallOwner
  resume?: Checkpoint | undefined
  /** Run with no other call in the engine, so that a crash can be attributed to it. Default false. */
  exclusive?: boolean
  /** Run in a process started after the one with this number (an error's `processNumber`). Default: the one that is running. */
  newerThan?: number | undefined
}

export interface EngineResult {
  /** In the order of their index. */
  readonly images: readonly EngineImage[]
  readonly loras: readonly UsedLora[]
  readonly timings: EngineTimings
}

export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode
  /** Whether this was the only call in the engine when it ended. */
  readonly alone: boolean
  /** Whether no other call was ever in the process, so that a new process would not give it more memory. */
  readonly first: boolean
  /** The number of the engine process in which the call was, from 1; 0 for none. */
  readonly processNumber: number

  constructor(code: EngineErrorCode, message: string, { alone = false, first = false, processNumber = 0 } = {}) {
    super(message)
    this.code = code
    this.alone = alone
    this.first = first
    this.processNumber = processNumber
  }

  /** Whether the engine process died during the call, which does not yet mean that the call was the cause. */
  get isCrash(): boolean {
    return this.code === 'engine_crashed' || this.code === 'engine_hung'
  }
}
