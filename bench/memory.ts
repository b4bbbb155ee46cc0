/**
 * What memory a model takes here: the engine process after loading, and the largest it gets by size of picture and requests in flight. For
 * choosing `WORKER_CONCURRENCY`, `MAX_PIXELS` and `ENGINE_MEMORY_LIMIT` with a model of one's own; on the CPU, where graphs and activations lie in
 * the same memory.
 */
import { resolve } from 'node:path'
import { existsSync } from 'node:fs'
import { describeHardware, readCommit } from './harness/report.ts'
import { modelName } from './load/bench-model.ts'
import { measureEngineMemory } from './load/engine-memory.ts'

const inFlights = [1, 8, 32]
/** Of the model's own side. */
const scales = [0.5, 1, 2]

/** `model`: as `MODEL`; a relative path is taken from the project's folder. */
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
