/**
 * Decides when an engine process is replaced because of its memory. Runs in the worker's main process; does no I/O.
 *
 * A process that is past its limit at the end of a call should be replaced. Where that does not help, because the model alone exceeds the
 * limit or the next process exceeds it again within its first calls, another one would be no smaller. Such a process is kept until it has
 * grown by another quarter.
 */

/** If a replacement exceeds the mark again before this many calls have ended, the engine really needs that much. */
const fewCalls = 10
/** The factor by which such an engine may then grow. */
const roomFactor = 1.25

/** What to do about a process: nothing, replace it, or tell the operator that the limit cannot be kept. */
export type MemoryVerdict = 'fine' | 'replace' | 'limit_too_low'

export class MemoryWatermark {
  /** A process is replaced when it exceeds this: the limit, or more if the engine needs more. */
  #bytes: number
  /** How many calls have ended since a process was replaced because of its memory. */
  #callsSinceReplaced = Infinity

  /** `limitBytes`: the limit for the process's memory; with Infinity no process is replaced. */
  constructor(limitBytes = Infinity) {
    this.#bytes = limitBytes
  }

  /** Call when a process has loaded its model and has not run anything yet. */
  judgeLoaded(memoryBytes: number): MemoryVerdict {
    return memoryBytes > this.#bytes ? this.#raise(memoryBytes) : 'fine'
  }

  /** Call when a call has ended. */
  judgeCall(memoryBytes: number): MemoryVerdict {
    this.#callsSinceReplaced++
    if (memoryBytes <= this.#bytes) return 'fine'
    return this.#callsSinceReplaced < fewCalls ? this.#raise(memoryBytes) : 'replace'
  }

  /** Call when a process has been replaced as advised. */
  replaced(): void {
    this.#callsSinceReplaced = 0
  }

  #raise(memoryBytes: number): MemoryVerdict {
    this.#bytes = memoryBytes * roomFactor
    return 'limit_too_low'
  }
}
