/** Collects a worker's log lines, for tests that wait until it has noticed something. */
import pino from 'pino'
import { expect } from 'vitest'

interface LogLine {
  msg: string
  /** Of a failed upload: the storage error. */
  err?: { code: string; message: string }
}

export function captureLog() {
  const lines: LogLine[] = []
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) })
  const saying = (message: string): LogLine[] => lines.filter(({ msg }) => msg === message)
  return {
    logger,
    /** All lines with this message. */
    saying,
    async until(message: string, count = 1): Promise<LogLine[]> {
      await expect.poll(() => saying(message).length, { timeout: 120_000, interval: 20 }).toBeGreaterThanOrEqual(count)
      return saying(message)
    },
  }
}
