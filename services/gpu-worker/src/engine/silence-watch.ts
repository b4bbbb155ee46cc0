/**
 * Tells an engine process that hangs from one that works for a long time without a message. Runs in the worker's main process.
 *
 * A native run blocks the engine, so it sends nothing during the run, and how long a run takes is not known beforehand: the first text, session
 * or step of a real model on a busy CPU has taken more than five minutes. So silence is judged by what the system sees of the process. A tick of
 * silence counts as one, but only as a tenth if the process was seen to work in it:
 *
 * - It used processor time, and its model runs on the CPU. With any other device this is no sign, because a driver may spin while it waits
 *   for a device that hangs.
 * - It had major page faults: mapped weights were read from disk. A process that hangs or is stopped has none.
 *
 * A silence may also always be four times as long as the longest one that has ended with a message, because that is what this model has needed
 * on this machine. So a process that is stopped, or waits for something that never comes, is found within the limit; one in an endless loop is
 * found after ten times as long.
 *
 * Silence is counted in ticks instead of clock time: if the counting process was itself stopped or the machine slept, messages waiting in
 * the channel are read before many ticks have passed. Without /proc no work is seen, and each tick counts as one. Knows nothing about calls.
 */
import { ProcessWork } from './process-work.ts'

/** How many ticks make the longest silence, for each image of the largest call. */
export const silentTicks = 10
/** What a tick counts as if the process was seen to work in it. */
const workingTick = 0.1
/** How many times as long as the longest silence so far the next one may be. */
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

  /** The process has reported that something is done. */
  hear(): void {
    this.#longestTicks = Math.max(this.#longestTicks, this.#silentTicks)
    this.#silentTicks = 0
  }

  /** Nothing is expected from the process. */
  rest(): void {
    this.#silentTicks = 0
  }

  /** A tick has passed while a message was expected. Returns whether the process hangs. `images`: the number of images of the largest call in it. */
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
