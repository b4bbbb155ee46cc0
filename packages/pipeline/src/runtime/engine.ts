/**
 * What all requests on one resident pipeline share besides the weights: the prompt cache, the admission to memory, the counters, and the
 * step times kept on disk.
 *
 * Invariant: one for each pipeline, shared by all its request views; nothing in here decides what a picture looks like.
 * Knows nothing about prompts or schedules. Runs in the engine process.
 */
import { EngineCounters } from './engine-stats.ts'
import type { EngineStats } from './engine-stats.ts'
import { MemoryAdmission } from './memory-admission.ts'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.ts'
import { ProfileCache } from './profile-cache.ts'
import { PromptCache } from './prompt-cache.ts'
import type { StepBatcher, StepBatcherOptions, StepRecord } from './step-batcher.ts'

export interface BatchingOptions extends StepBatcherOptions {
  /** Folder in which measured step times outlive the process; made when absent, ignored when it cannot be written. Default: none are kept. */
  readonly cacheDir?: string | undefined
  /** Resident bytes of the process beyond which further requests wait before they take memory. Default: no limit. */
  readonly memoryLimitBytes?: number | undefined
  /** Bytes of prompt embeddings kept for prompts that come again, from 0. Default 256 MiB, and no more than a tenth of what a limit leaves. */
  readonly promptCacheBytes?: number | undefined
  /** Called after every run of the transformer. Default: nobody. */
  readonly onStep?: ((step: StepRecord) => void) | undefined
}

const DEFAULT_PROMPT_CACHE_BYTES = 256 * 2 ** 20

export class Engine {
  readonly batcher: StepBatcher
  readonly promptCache: PromptCache
  readonly memory: MemoryAdmission
  readonly counters: EngineCounters
  /** Set when step times are to be kept on disk: settles when their file has been read. */
  profileCache: Promise<ProfileCache | undefined> | undefined
  /** The same once it is there. */
  openCache: ProfileCache | undefined
  closed = false

  constructor(batcher: StepBatcher, options: BatchingOptions = {}) {
    this.batcher = batcher
    this.memory = new MemoryAdmission(options.memoryLimitBytes)
    this.promptCache = new PromptCache(options.promptCacheBytes ?? defaultCacheBytes(this.memory))
    this.counters = new EngineCounters(batcher)
    batcher.aroundRun = (size, run) => this.memory.measure('step', size, run)
    batcher.onOutOfMemory = () => {
      this.counters.shortages++
      this.promptCache.clear()
    }
    batcher.onStep = (record) => {
      this.counters.count(record)
      options.onStep?.(record)
    }
  }

  get stats(): EngineStats {
    return this.counters.toStats(this.promptCache.stats, this.memory.stats)
  }

  /**
   * Starts to keep step times in `cacheDir`, under an identity that may take its time: hashing a large model takes longer than its first
   * pictures should wait.
   */
  keepStepTimes(cacheDir: string, identify: () => Promise<readonly unknown[]>): void {
    const open = async () => {
      const identity = await identify()
      if (this.closed) return undefined
      this.openCache = await ProfileCache.open(cacheDir, identity, this.batcher.profile)
      return this.openCache
    }
    // A model folder that can no longer be read: times are measured and not kept.
    this.profileCache = open().catch(() => undefined)
  }

  /** Writes the step times that are known by now, if they are kept. */
  async saveStepTimes(): Promise<void> {
    await this.openCache?.save()
  }

  /** Runs one unit of work; when memory runs out, gives back what can be spared and tries once more. `work`: its name, for the error. */
  async withMemory<T>(work: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
    }
    this.counters.shortages++
    this.promptCache.clear()
    this.batcher.buffers.clear()
    try {
      return await run()
    } catch (error) {
      throw isOutOfMemory(error) ? new OutOfMemoryError(work, { cause: error }) : error
    }
  }

  async close(): Promise<void> {
    this.closed = true
    // A model that is still being hashed is not waited for: it would take minutes.
    await this.openCache?.close()
  }
}

/** A cache must not take the memory that requests wait for. */
function defaultCacheBytes({ limitBytes = Infinity, baseBytes }: MemoryAdmission): number {
  return Math.min(DEFAULT_PROMPT_CACHE_BYTES, Math.max(0, Math.floor((limitBytes - baseBytes) / 10)))
}
