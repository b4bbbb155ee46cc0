/** The memory of an engine process under load. Each measurement starts a new process, because a runtime keeps all memory it has ever taken. */
import { startEngine } from '../../services/gpu-worker/src/engine/engine-supervisor.ts'
import { modelsDir } from './bench-model.ts'
import { toRequest } from './in-flight.ts'

export interface MemoryLoad {
  /** Given as for `MODEL`: a name in the project's `models`, or a path. */
  readonly model: string
  readonly inFlight: number
  readonly requests: number
  /** Pixels. Default: the model's own. */
  readonly side?: number
}

export interface EngineMemory {
  /** In MiB, before the first request. */
  readonly loadedMib: number
  /** The side of the model's own pictures in pixels. */
  readonly width: number
  /** The largest value seen between steps, in MiB. */
  readonly largestMib: number
}

/** Enough steps for the engine to have tried every number of rows up to its knee. */
const steps = 3

export async function measureEngineMemory({ model, inFlight, requests, side }: MemoryLoad): Promise<EngineMemory> {
  const engine = await startEngine({ model, modelsDir, device: 'cpu', stepTimeoutMs: 600_000 })
  try {
    const { defaults } = engine.capabilities
    const loaded = (await engine.stats()).memoryBytes
    let largest = loaded
    const ended = new AbortController()
    const watch = async (): Promise<void> => {
      while (!ended.signal.aborted) largest = Math.max(largest, (await engine.stats()).memoryBytes)
    }
    let begun = 0
    const client = async (): Promise<void> => {
      while (begun < requests) {
        const n = begun++
        await engine.generate(String(n), {
          prompt: String(toRequest(n).prompt),
          negativePrompt: '',
          width: side ?? defaults.width,
          height: side ?? defaults.height,
          numInferenceSteps: steps,
          guidanceScale: 4,
          numImagesPerPrompt: 1,
          seed: n,
          maxSequenceLength: defaults.maxSequenceLength,
        })
      }
      ended.abort()
    }
    await Promise.all([...Array.from({ length: inFlight }, client), watch()])
    return { width: defaults.width, loadedMib: loaded / 2 ** 20, largestMib: largest / 2 ** 20 }
  } finally {
    await engine.close()
  }
}
