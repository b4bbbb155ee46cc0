/** How many threads a run on the CPU gets by default. */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/**
 * One thread for each physical core, but no more than Node.js says this process may use: the cores it is bound to, and a quota where Node.js
 * sees one. ONNX Runtime's own default binds each thread to a core, where it has to wait whenever another process runs there.
 */
export function defaultCpuThreads(): number {
  return Math.max(1, Math.min(physicalCores(), availableParallelism()))
}

/** Infinity where the number is not known: on every system but Linux. */
function physicalCores(): number {
  const folder = '/sys/devices/system/cpu'
  try {
    const cpus = readdirSync(folder).filter((name) => /^cpu\d+$/.test(name))
    return new Set(cpus.map((cpu) => readFileSync(`${folder}/${cpu}/topology/core_cpus_list`, 'utf8'))).size
  } catch {
    return Infinity
  }
}
