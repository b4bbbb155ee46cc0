/**
 * The way out of the engine process: what is said in one turn of the event loop goes as one report. A step is news of every call in it, and
 * a parent that is woken for each takes more time than the news.
 */
import type { EngineReport, FromEngine } from './protocol.ts'

/** A parent that is gone closes the channel, and that ends this process; what could not be sent any more is nobody's. */
export function createReports(channel: Pick<NodeJS.Process, 'send'>): (message: FromEngine) => void {
  let report: FromEngine[] = []
  const send = (): void => {
    channel.send?.(report satisfies EngineReport, () => {})
    report = []
  }
  return (message) => {
    // Ticks come after all promises that are ready, and before the next native run.
    if (report.push(message) === 1) process.nextTick(send)
  }
}
