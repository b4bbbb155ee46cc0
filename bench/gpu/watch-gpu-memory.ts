/** How much memory of the first NVIDIA GPU is in use beyond what was in use before; 0 where there is none. */
import { readGpuMemory } from '../../services/gpu-worker/src/status/read-gpu-memory.ts'

const sampleMs = 200
const mibInGib = 1024

/** Watches until the returned function is called, which gives the largest value seen, in MiB. Further calls give the same value. */
export async function watchGpuMemory(): Promise<() => Promise<number>> {
  const read = async (): Promise<number> => ((await readGpuMemory())?.memory_allocated_gb ?? 0) * mibInGib
  const before = await read()
  let most = before
  let looking = Promise.resolve()
  const timer = setInterval(() => {
    looking = looking.then(async () => {
      most = Math.max(most, await read())
    })
  }, sampleMs)
  return async () => {
    clearInterval(timer)
    await looking
    return most - before
  }
}
