/**
 * Decides when an engine process is replaced because of its memory. Runs in the worker's main process; does no I/O.
 *
 * A process found past its limit at the end of a call is to be replaced. Where that does not last, because the model alone is past the limit
 * or the process that came after is past it again within its first calls, the next would be no smaller: it is let be until it has grown by a
 * quarter more.
 */

/** A process that took the place of one that was too large, and is past the mark before so many calls have ended, needs that much. */
const FEW_CALLS = 10
/** How much such a process may grow. */
const ROOM = 1.25

/** What is to be done about a process: nothing, replace it, or tell the operator that the limit cannot be kept. */
export type MemoryVerdict = 'fine' | 'replace' | 'limit_too_low'

export class MemoryWatermark {
  /** Past it a process is replaced: the limit, or more where the engine cannot do with that. */
  #bytes: number
  /** Calls that have ended since a process was replaced because of its memory. */
  #callsSinceReplaced = Infinity

  /** `limitBytes`: resident memory of the process; Infinity: none is replaced. */
  constructor(limitBytes = Infinity) {
    this.#bytes = limitBytes
  }

  /** A process has loaded its model and has run nothing yet. */
  judgeLoaded(memoryBytes: number): MemoryVerdict {
    return memoryBytes > this.#bytes ? this.#raise(memoryBytes) : 'fine'
  }

  /** A call has ended. */
  judgeCall(memoryBytes: number): MemoryVerdict {
    this.#callsSinceReplaced++
    if (memoryBytes <= this.#bytes) return 'fine'
    return this.#callsSinceReplaced < FEW_CALLS ? this.#raise(memoryBytes) : 'replace'
  }

  /** A process that was to be replaced has been. */
  replaced(): void {
    this.#callsSinceReplaced = 0
  }

  #raise(memoryBytes: number): MemoryVerdict {
    this.#bytes = memoryBytes * ROOM
    return 'limit_too_low'
  }
}
