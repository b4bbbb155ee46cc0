/**
 * Owns the live progress of several jobs on a terminal: one line each, redrawn in place. To a pipe or file it writes a plain line when a
 * job's state changes and at each quarter of its steps.
 *
 * Knows nothing about where the jobs come from.
 */
import type { WriteStream } from 'node:tty'

export interface JobProgress {
  status: string
  progress: { step: number; total: number }
}

const barWidth = 20

export function createProgressLines(titles: string[], out: WriteStream) {
  const titleWidth = Math.max(...titles.map((title) => title.length))
  const states = titles.map((): JobProgress => ({ status: 'sent', progress: { step: 0, total: 0 } }))
  const plainKeys: string[] = []
  let drawn = false

  const toLine = (index: number) => {
    const { status, progress } = states[index] as JobProgress
    const filled = progress.total === 0 ? 0 : Math.round((barWidth * progress.step) / progress.total)
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled)
    return `${titles[index]?.padEnd(titleWidth)}  ${bar}  ${progress.step}/${progress.total} ${status}`
  }
  const redraw = () => {
    // A line that wraps would break the count of lines to move up.
    const lines = titles.map((_, index) => `\u001B[2K${toLine(index).slice(0, out.columns - 1)}\n`)
    out.write((drawn ? `\u001B[${titles.length}A` : '') + lines.join(''))
    drawn = true
  }

  return {
    update(index: number, job: JobProgress): void {
      states[index] = job
      if (out.isTTY) {
        redraw()
        return
      }
      const { step, total } = job.progress
      const key = `${job.status} ${total === 0 ? 0 : Math.floor((4 * step) / total)}`
      if (plainKeys[index] !== key) out.write(`${toLine(index)}\n`)
      plainKeys[index] = key
    },
  }
}
