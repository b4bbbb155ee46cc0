/** How much memory of the first NVIDIA GPU is in use beyond what was in use before; 0 where there is none. */
import { readGpuMemory } from '../../services/gpu-worker/src/read-gpu-memory.ts'

const SAMPLE_MS = 200
const MIB_IN_GIB = 1024

/** Watches until the returned function is called, which gives the largest value seen, in MiB. Further calls give the same value. */
export async function watchGpuMemory(): Promise<() => Promise<number>> {
  const read = async (): Promise<number> => ((await readGpuMemory())?.memory_allocated_gb ?? 0) * MIB_IN_GIB
  const before = await read()
  let most = before
  let looking = Promise.resolve()
  const timer = setInterval(() => {
    looking = looking.then(async () => {
      most = Math.max(most, await read())
    })
  }, SAMPLE_MS)
  return async () => {
    clearInterval(timer)
    await looking
    return most - before
  }
}
