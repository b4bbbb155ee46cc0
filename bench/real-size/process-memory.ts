/** How much of the machine's memory a process takes, as Linux reports it. */
import { readFileSync } from 'node:fs'

const mibInKib = 1024

/** In MiB: memory that is the process's own, and pages of files that it maps. */
export function readMemory(pid: number | 'self'): { readonly ownMib: number; readonly mappedMib: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return { ownMib: readKib(status, 'RssAnon') / mibInKib, mappedMib: readKib(status, 'RssFile') / mibInKib }
}

/** In MiB. A page that several processes share is divided among them. */
export function readProportionalMib(pid: number): number {
  return readKib(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'), 'Pss') / mibInKib
}

export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)
}

function readKib(text: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]
  if (found === undefined) throw new Error(`Expected Linux to report ${field} of a process, got:\n${text}`)
  return Number(found)
}
