/**
 * Tells an engine process that hangs from one that works for a long time without a word. Runs in the worker's main process.
 *
 * A native run blocks the engine, so it says nothing meanwhile, and nobody knows beforehand how long a run takes: the first text, session or
 * step of a real model on a busy CPU has taken more than five minutes. So silence is judged by what the system sees of the process. A tick of
 * silence counts whole, but only a tenth if the process was seen to work in it:
 *
 * - It used processor time, and its model runs on the CPU. With any other device this is no sign, because a driver may spin while it waits
 *   for a device that hangs.
 * - It had major page faults: mapped weights were read from disk. Whatever hangs or is stopped has none.
 *
 * A silence may also always be four times as long as the longest that a word has ended, which is what has been measured of this model on this
 * machine. So a process that is stopped, or waits for something that never comes, is found within the limit; one that computes in circles is
 * found too, ten times later.
 *
 * Silence is counted in ticks instead of clock time: if the process that counts was itself stopped or the machine slept, messages waiting in
 * the channel are read before many ticks have passed. Without /proc no work is seen, and each tick counts whole. Knows nothing about calls.
 */
import { ProcessWork } from './process-work.ts'

/** How many ticks make the longest silence, for each image of the largest call. */
export const silentTicks = 10
/** What a tick counts in which the process was seen to work. */
const workingTick = 0.1
/** How many times as long as the longest silence so far the next may be. */
const margin = 4

export interface SilenceWatchOptions {
  pid: number | undefined
  /** Whether the process computes on the CPU, so that processor time is a sign of work. */
  isOnCpu: boolean
  /** The time between two calls of `tick`, in milliseconds. */
  tickMs: number
}

export class SilenceWatch {
  readonly #options: SilenceWatchOptions
  #silentTicks = 0
  #longestTicks = 0
  readonly #work: ProcessWork

  constructor(options: SilenceWatchOptions) {
    this.#options = options
    this.#work = new ProcessWork(options.pid)
  }

  /** The process has said that something is done. */
  hear(): void {
    this.#longestTicks = Math.max(this.#longestTicks, this.#silentTicks)
    this.#silentTicks = 0
  }

  /** Nothing is expected from the process. */
  rest(): void {
    this.#silentTicks = 0
  }

  /** A tick has passed in which the process owed a word. Returns whether it hangs. `images`: of the largest call in it. */
  tick(images: number): boolean {
    this.#silentTicks += this.#hasWorked() ? workingTick : 1
    return this.#silentTicks > Math.max(silentTicks * images, margin * this.#longestTicks)
  }

  #hasWorked(): boolean {
    const { isOnCpu, tickMs } = this.#options
    const { computed, paged } = this.#work.look(tickMs)
    return (isOnCpu && computed) || paged
  }
}
