/**
 * How much memory a model takes on this machine: the engine process after loading, and its maximum by size of picture and requests in flight. This
 * helps to choose `WORKER_CONCURRENCY`, `MAX_PIXELS` and `ENGINE_MEMORY_LIMIT` for a model of one's own. It runs on the CPU, where graphs and
 * activations are in the same memory.
 */
import { resolve } from 'node:path'
import { existsSync } from 'node:fs'
import { describeHardware, readCommit } from './harness/report.ts'
import { modelName } from './load/bench-model.ts'
import { measureEngineMemory } from './load/engine-memory.ts'

const inFlights = [1, 8, 32]
/** Relative to the side of the model's own pictures. */
const scales = [0.5, 1, 2]

/** `model`: given as for `MODEL`; a relative path is relative to the project's folder. */
export async function runMemory(model: string = modelName): Promise<number> {
  const found = existsSync(model) ? resolve(model) : model
  console.log(`Easel memory, commit ${readCommit()}, ${describeHardware()}; MiB of the engine process of ${model}`)
  const { loadedMib, width } = await measureEngineMemory({ model: found, inFlight: 1, requests: 1 })
  console.log(`loaded: ${loadedMib.toFixed(0)}`)
  console.log(`| in flight | ${scales.map((scale) => `${width * scale} px`).join(' | ')} |`)
  console.log(`|--:|${scales.map(() => '--:|').join('')}`)
  for (const inFlight of inFlights) {
    const largest: string[] = []
    for (const scale of scales) {
      const { largestMib } = await measureEngineMemory({ model: found, inFlight, requests: inFlight * 2, side: width * scale })
      largest.push(largestMib.toFixed(0))
    }
    console.log(`| ${inFlight} | ${largest.join(' | ')} |`)
  }
  return 0
}
