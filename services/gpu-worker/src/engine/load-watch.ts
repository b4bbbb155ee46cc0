/**
 * Tells an engine process that hangs while it loads its model, as it does on a dead network mount, from one that loads slowly. Runs in
 * the worker's main process.
 *
 * How long a model takes to load is not known beforehand, so it is not the loading time that is limited, but silence. A process that has used
 * processor time, read, or had pages of mapped files read since the last look is working, and its silence starts again from zero. Silence is
 * counted in ticks instead of clock time: if the counting process was itself stopped or the machine slept, no more than one tick has passed.
 */
import { ProcessWork } from './process-work.ts'

/** How many ticks make the longest silence. */
const silentTicks = 10

export interface LoadWatchOptions {
  pid: number | undefined
  /** The longest silence, in milliseconds. */
  timeoutMs: number
  /** Called at every tick of a silence with its length so far, in milliseconds. */
  onSilence: (silentMs: number) => void
  /** Called once, when the silence exceeds the timeout. */
  onHung: () => void
}

export class LoadWatch {
  readonly #timer: NodeJS.Timeout

  constructor({ pid, timeoutMs, onSilence, onHung }: LoadWatchOptions) {
    const tickMs = timeoutMs / silentTicks
    const work = new ProcessWork(pid)
    let ticks = 0
    this.#timer = setInterval(() => {
      const { computed, paged, read } = work.look(tickMs)
      ticks = computed || paged || read ? 0 : ticks + 1
      if (ticks > 0) onSilence(ticks * tickMs)
      if (ticks < silentTicks) return
      this.stop()
      onHung()
    }, tickMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
