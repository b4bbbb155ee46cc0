/**
 * What the requests on one resident model share on its device besides the weights: turns, the step batcher, the caches of encoded prompts and
 * pictures, memory admission, the counters, and the step times kept on disk.
 *
 * Every run of a graph takes its turn here: rows of steps through `batcher`, everything else through `encode` and `decode`.
 * Invariant: each pipeline has one, shared by all its request views; nothing in here decides what a picture looks like. Whenever memory
 * runs out, later steps take fewer rows.
 * Knows nothing about prompts, schedules or models. Runs in the engine process.
 */
import { deviceQueue } from './device-queue.ts'
import type { DeviceWork } from './device-queue.ts'
import { MemoryAdmission } from './memory-admission.ts'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'
import { ProfileCache } from './profile-cache.ts'
import { PictureCache } from './picture-cache.ts'
import { PromptCache } from './prompt-cache.ts'
import { RuntimeCounters } from './runtime-stats.ts'
import type { RuntimeStats } from './runtime-stats.ts'
import { StepBatcher } from './step-batcher.ts'
import type { StepBatcherOptions, StepRecord } from './step-batcher.ts'
import type { StepGraph } from './step-graph.ts'
import { untilAborted } from './until-aborted.ts'

export interface BatchingOptions extends StepBatcherOptions {
  /**
   * The folder in which measured step times, and the limit learnt from the last shortage of memory, outlive the process. It is created if its
   * parent folder exists, and ignored when it cannot be written. Default: nothing is kept.
   */
  readonly cacheDir?: string | undefined
  /** When the process takes more resident bytes than this, further requests wait before they take memory. Default: no limit. */
  readonly memoryLimitBytes?: number | undefined
  /** How many bytes of embeddings to keep for prompts used again, from 0. Default 256 MiB, at most a tenth of what memoryLimitBytes leaves. */
  readonly promptCacheBytes?: number | undefined
  /** How many bytes of latents to keep for input pictures used again, from 0. Default 64 MiB, at most a tenth of what memoryLimitBytes leaves. */
  readonly pictureCacheBytes?: number | undefined
  /** Called after every encoding and every decoding. Default none. */
  readonly onUnit?: (() => void) | undefined
  /** Called after every run of the transformer. Default none. */
  readonly onStep?: ((step: StepRecord) => void) | undefined
}

const defaultPromptCacheBytes = 256 * 2 ** 20
const defaultPictureCacheBytes = 64 * 2 ** 20

export class Runtime {
  readonly batcher: StepBatcher
  readonly promptCache: PromptCache
  readonly pictureCache: PictureCache
  readonly memory: MemoryAdmission
  readonly counters: RuntimeCounters
  readonly onUnit: () => void
  /** Undefined unless step times are kept on disk. */
  profileCache: ProfileCache | undefined

  /** `graph` runs the rows of steps. */
  constructor(graph: StepGraph, options: BatchingOptions = {}) {
    this.batcher = new StepBatcher(graph, options)
    this.memory = new MemoryAdmission(options.memoryLimitBytes)
    this.promptCache = new PromptCache(options.promptCacheBytes ?? cacheBytes(this.memory, defaultPromptCacheBytes))
    this.pictureCache = new PictureCache(options.pictureCacheBytes ?? cacheBytes(this.memory, defaultPictureCacheBytes))
    this.counters = new RuntimeCounters(this.batcher)
    this.onUnit = options.onUnit ?? (() => {})
    this.batcher.aroundRun = (work, run) => this.memory.measure('step', work, run)
    this.batcher.onOutOfMemory = () => {
      this.counters.shortages++
      this.clearCaches()
    }
    this.batcher.onStep = (record) => {
      this.counters.count(record)
      options.onStep?.(record)
    }
  }

  get stats(): RuntimeStats {
    return this.counters.toStats({ promptCache: this.promptCache.stats, pictureCache: this.pictureCache.stats }, this.memory.stats)
  }

  /** Starts from the step times in `cacheDir` and keeps them there. `identity`: everything they depend on except this machine's processor. */
  async keepStepTimes(cacheDir: string, identity: readonly unknown[]): Promise<void> {
    this.profileCache = await ProfileCache.open(cacheDir, identity, this.batcher.profile)
  }

  /** Saves the step times known by now, where they are kept. */
  async saveStepTimes(): Promise<void> {
    await this.profileCache?.save()
  }

  /** Runs `work`, the encoding of a text, in its own turn; rejects at once when `signal` aborts. */
  encode<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.inTurn('encode', 'encoding', work, signal)
  }

  /** Runs `work`, the encoding of this many pixels, in its own turn; rejects at once when `signal` aborts. */
  encodePicture<T>(pixels: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.encode(() => this.memory.measure('encode', pixels, work), signal)
  }

  /** Runs `work`, the decoding of this many pixels, in its own turn; rejects at once when `signal` aborts. */
  decode<T>(pixels: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.inTurn('decode', 'decoding one picture', () => this.memory.measure('decode', pixels, work), signal)
  }

  /** Runs one unit of work. When memory runs out, it releases what can be spared and tries once more. `name` is used in the error. */
  async inTurn<T>(kind: Exclude<DeviceWork, 'step'>, name: string, work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const unit = async (): Promise<T> => {
      const startedAt = performance.now()
      try {
        const result = await work()
        this.onUnit()
        return result
      } finally {
        this.counters[`${kind}Ms`] += performance.now() - startedAt
      }
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
   * Called when a unit found no memory. ONNX Runtime keeps what steps have taken, so only smaller steps leave room for the unit, and often
   * only in the process that follows this one. What was learnt is therefore on disk before the request fails.
   */
  async learnFromShortage(): Promise<void> {
    this.counters.shortages++
    this.clearCaches()
    this.batcher.dropBuffers()
    this.batcher.profile.observeUnitShortage()
    await this.saveStepTimes()
  }

  clearCaches(): void {
    this.promptCache.clear()
    this.pictureCache.clear()
  }

  async close(): Promise<void> {
    await this.profileCache?.close()
  }
}

/** The cache must not take the memory that requests wait for. */
function cacheBytes({ limitBytes = Infinity, baseBytes }: MemoryAdmission, mostBytes: number): number {
  return Math.min(mostBytes, Math.max(0, Math.floor((limitBytes - baseBytes) / 10)))
}
