/**
 * The progress of a transfer. On a terminal it is one line with a bar, rate and time left, redrawn in place; elsewhere a line at each tenth.
 *
 * Knows nothing about what is transferred.
 */
import type { WriteStream } from 'node:tty'
import { toDuration, toSize } from './say.ts'

const barWidth = 24
const redrawMs = 100
/** The rate is measured over the last few seconds. */
const rateWindowMs = 5000

export class TransferLine {
  readonly #out: WriteStream
  readonly #now: () => number
  /** How many bytes there were at certain moments, oldest first. */
  readonly #samples: { atMs: number; bytes: number }[] = []
  #drawnAtMs = -Infinity
  #tenths = -1
  #isDrawn = false

  constructor(out: WriteStream, now: () => number = () => performance.now()) {
    this.#out = out
    this.#now = now
  }

  update(doneBytes: number, totalBytes: number): void {
    const atMs = this.#now()
    this.#samples.push({ atMs, bytes: doneBytes })
    while (this.#samples.length > 2 && atMs - (this.#samples[1]?.atMs ?? 0) > rateWindowMs) this.#samples.shift()
    const share = totalBytes === 0 ? 1 : doneBytes / totalBytes
    if (this.#out.isTTY) {
      if (atMs - this.#drawnAtMs < redrawMs && doneBytes < totalBytes) return
      this.#drawnAtMs = atMs
      const filled = Math.round(barWidth * Math.min(1, Math.max(0, share)))
      this.#draw(`${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}  ${this.#describe(doneBytes, totalBytes)}`)
    } else if (Math.floor(share * 10) > this.#tenths) {
      this.#tenths = Math.floor(share * 10)
      this.#out.write(`${this.#describe(doneBytes, totalBytes)}\n`)
    }
  }

  /** Prints a separate line; the bar continues below it. */
  say(text: string): void {
    this.#out.write(`${this.#isDrawn ? '\u001B[2K\r' : ''}${text}\n`)
    this.#isDrawn = false
  }

  /** Leaves the bar as it is and moves to the next line. */
  end(): void {
    if (this.#isDrawn) this.#out.write('\n')
    this.#isDrawn = false
  }

  #draw(line: string): void {
    this.#out.write(`\u001B[2K\r${line.slice(0, this.#out.columns - 1)}`)
    this.#isDrawn = true
  }

  #describe(doneBytes: number, totalBytes: number): string {
    const [oldest, newest] = [this.#samples[0], this.#samples.at(-1)]
    const seconds = ((newest?.atMs ?? 0) - (oldest?.atMs ?? 0)) / 1000
    const rate = seconds > 0 ? Math.max(0, ((newest?.bytes ?? 0) - (oldest?.bytes ?? 0)) / seconds) : 0
    const left = rate > 0 ? `${toSize(rate)}/s, ${toDuration((totalBytes - doneBytes) / rate)} left` : ''
    return `${Math.floor(totalBytes === 0 ? 100 : (100 * doneBytes) / totalBytes)} %  ${toSize(doneBytes)} of ${toSize(totalBytes)}  ${left}`.trimEnd()
  }
}
