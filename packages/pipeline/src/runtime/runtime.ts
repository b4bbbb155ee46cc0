/**
 * What the requests on one resident model share on its device besides the weights: turns, the step batcher, the prompt cache, the admission
 * to memory, the counters, and the step times kept on disk.
 *
 * Whoever runs a graph comes here for a turn: rows of steps through `batcher`, everything else through `encode` and `decode`.
 * Invariant: one for each pipeline, shared by all its request views; nothing in here decides what a picture looks like. When memory runs
 * out, whatever it ran out in, later steps take fewer rows.
 * Knows nothing about prompts, schedules or models. Runs in the engine process.
 */
import { deviceQueue } from './device-queue.ts'
import type { DeviceWork } from './device-queue.ts'
import { MemoryAdmission } from './memory-admission.ts'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'
import { ProfileCache } from './profile-cache.ts'
import { PromptCache } from './prompt-cache.ts'
import { RuntimeCounters } from './runtime-stats.ts'
import type { RuntimeStats } from './runtime-stats.ts'
import { StepBatcher } from './step-batcher.ts'
import type { StepBatcherOptions, StepGraph, StepRecord } from './step-batcher.ts'
import { untilAborted } from './until-aborted.ts'

export interface BatchingOptions extends StepBatcherOptions {
  /**
   * Folder in which measured step times and the lesson of the last shortage of memory outlive the process; made when absent, ignored when it
   * cannot be written. Default: none are kept.
   */
  readonly cacheDir?: string | undefined
  /** Resident bytes of the process beyond which further requests wait before they take memory. Default: no limit. */
  readonly memoryLimitBytes?: number | undefined
  /** Bytes of prompt embeddings kept for prompts that come again, from 0. Default 256 MiB, and no more than a tenth of what a limit leaves. */
  readonly promptCacheBytes?: number | undefined
  /** Called after every encoding and every decoding. Default: nobody. */
  readonly onUnit?: (() => void) | undefined
  /** Called after every run of the transformer. Default: nobody. */
  readonly onStep?: ((step: StepRecord) => void) | undefined
}

const DEFAULT_PROMPT_CACHE_BYTES = 256 * 2 ** 20

export class Runtime {
  readonly batcher: StepBatcher
  readonly promptCache: PromptCache
  readonly memory: MemoryAdmission
  readonly counters: RuntimeCounters
  readonly onUnit: () => void
  /** Undefined unless step times are kept. */
  profileCache: ProfileCache | undefined

  /** `graph`: what runs the rows of steps. */
  constructor(graph: StepGraph, options: BatchingOptions = {}) {
    this.batcher = new StepBatcher(graph, options)
    this.memory = new MemoryAdmission(options.memoryLimitBytes)
    this.promptCache = new PromptCache(options.promptCacheBytes ?? defaultCacheBytes(this.memory))
    this.counters = new RuntimeCounters(this.batcher)
    this.onUnit = options.onUnit ?? (() => {})
    this.batcher.aroundRun = (work, run) => this.memory.measure('step', work, run)
    this.batcher.onOutOfMemory = () => {
      this.counters.shortages++
      this.promptCache.clear()
    }
    this.batcher.onStep = (record) => {
      this.counters.count(record)
      options.onStep?.(record)
    }
  }

  get stats(): RuntimeStats {
    return this.counters.toStats(this.promptCache.stats, this.memory.stats)
  }

  /** Starts from the step times in `cacheDir` and keeps them there. `identity`: everything they depend on but this machine's processor. */
  async keepStepTimes(cacheDir: string, identity: readonly unknown[]): Promise<void> {
    this.profileCache = await ProfileCache.open(cacheDir, identity, this.batcher.profile)
  }

  /** Writes the step times that are known by now, if they are kept. */
  async saveStepTimes(): Promise<void> {
    await this.profileCache?.save()
  }

  /** Runs `work`, the reading of a text, in a turn of its own; leaves at once when `signal` aborts. */
  async encode<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const startedAt = performance.now()
    try {
      return await this.inTurn('encode', 'encoding', work, signal)
    } finally {
      this.counters.encodeMs += performance.now() - startedAt
    }
  }

  /** Runs `work`, the encoding of so many pixels, in a turn of its own; leaves at once when `signal` aborts. */
  encodePicture<T>(pixels: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.encode(() => this.memory.measure('encode', pixels, work), signal)
  }

  /** Runs `work`, the decoding of so many pixels, in a turn of its own; leaves at once when `signal` aborts. */
  async decode<T>(pixels: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const startedAt = performance.now()
    try {
      return await this.inTurn('decode', 'decoding one picture', () => this.memory.measure('decode', pixels, work), signal)
    } finally {
      this.counters.decodeMs += performance.now() - startedAt
    }
  }

  /** One unit of work. When memory runs out, gives back what can be spared and tries once more. `name`: for the error. */
  async inTurn<T>(kind: Exclude<DeviceWork, 'step'>, name: string, work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const unit = async (): Promise<T> => {
      const result = await work()
      this.onUnit()
      return result
    }
    const attempt = (): Promise<T> => untilAborted(deviceQueue.run(kind, unit, signal), signal)
    try {
      return await attempt()
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
    }
    await this.learnFromShortage()
    try {
      return await attempt()
    } catch (error) {
      throw isOutOfMemory(error) ? new OutOfMemoryError(name, { cause: error }) : error
    }
  }

  /**
   * A unit found no memory. ONNX Runtime keeps what steps have taken, so smaller steps are the only thing that leaves room for it, and often
   * only in the process that follows this one: what was learnt is on disk before the request fails.
   */
  async learnFromShortage(): Promise<void> {
    this.counters.shortages++
    this.promptCache.clear()
    this.batcher.dropBuffers()
    this.batcher.profile.observeUnitShortage()
    await this.saveStepTimes()
  }

  async close(): Promise<void> {
    await this.profileCache?.close()
  }
}

/** A cache must not take the memory that requests wait for. */
function defaultCacheBytes({ limitBytes = Infinity, baseBytes }: MemoryAdmission): number {
  return Math.min(DEFAULT_PROMPT_CACHE_BYTES, Math.max(0, Math.floor((limitBytes - baseBytes) / 10)))
}
