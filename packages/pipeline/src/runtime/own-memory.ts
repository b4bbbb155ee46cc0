/**
 * How much memory this process takes from the machine: what is resident and its own. Pages of files that are only mapped, as weights may be,
 * are not counted: all processes share them, and the system takes them back when it is short.
 */
import { readFileSync } from 'node:fs'

/** Bytes. Where the system does not tell the two apart, as anywhere but on Linux, all that is resident. */
export function ownMemoryBytes(): number {
  const anonymousKib = /^RssAnon:\s+(\d+) kB$/m.exec(readStatus())?.[1]
  return anonymousKib === undefined ? process.memoryUsage.rss() : Number(anonymousKib) * 1024
}

function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'latin1')
  } catch {
    return ''
  }
}
