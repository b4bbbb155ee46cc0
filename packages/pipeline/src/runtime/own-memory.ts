/**
 * How much memory this process takes from the machine: the resident pages that are its own. Pages of mapped files, such as weights, are not
 * counted, because all processes share them and the system reclaims them when memory is short.
 */
import { readFileSync } from 'node:fs'

/** In bytes. Only Linux tells the two kinds of pages apart; elsewhere this is all resident memory. */
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
