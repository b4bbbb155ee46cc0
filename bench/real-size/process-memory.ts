/** What a process takes of the machine's memory, as Linux tells it. */
import { readFileSync } from 'node:fs'

const MIB_IN_KIB = 1024

/** MiB of memory that is the process's own, and of pages of files it maps. */
export function readMemory(pid: number | 'self'): { readonly ownMib: number; readonly mappedMib: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return { ownMib: readKib(status, 'RssAnon') / MIB_IN_KIB, mappedMib: readKib(status, 'RssFile') / MIB_IN_KIB }
}

/** MiB: pages that several processes share count for each as its part. */
export function readProportionalMib(pid: number): number {
  return readKib(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'), 'Pss') / MIB_IN_KIB
}

export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)
}

function readKib(text: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]
  if (found === undefined) throw new Error(`Expected Linux to tell ${field} of a process, got:\n${text}`)
  return Number(found)
}
