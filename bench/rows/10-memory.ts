/**
 * Row 10: fifty requests in flight need little more memory than one.
 *
 * Left: largest resident memory of an engine process with 50 requests in flight. Right: with 1. Each slot starts a fresh engine process
 * through the worker's own supervisor, because a runtime keeps what it has once taken. What may grow is latents and the
 * activations of a larger step; weights, graphs and buffers are shared.
 * Control: what 50 replicas of the process would take, the memory of one times 50.
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'
import { toRequest } from '../load/in-flight.ts'
import { startEngine } from '../../services/gpu-worker/src/engine/engine-supervisor.ts'

/** Enough that the engine has tried every number of rows up to its knee. */
const steps = 3

export const row: Row = {
  id: 10,
  claims: [{ name: 'resident memory of the engine, 50 in flight / 1 in flight', target: '<= 1.3' }],
  controls: 'Control: the memory of 50 replicas.',
  async run({ pairs }) {
    const rounds = await runRounds(pairs, { many: () => measureMib(50, 50), one: () => measureMib(1, 4) })
    const oneMib = median(rounds.map(({ one }) => one))
    return {
      measured: [toMeasured(rounds.map(({ many, one }) => many / one))],
      controls: {
        '1 in flight': `${oneMib.toFixed(0)} MiB`,
        '50 in flight': `${median(rounds.map(({ many }) => many)).toFixed(0)} MiB`,
        '50 replicas': `${(oneMib * 50).toFixed(0)} MiB`,
      },
    }
  },
}

/** Largest resident memory, MiB, seen between steps. */
async function measureMib(inFlight: number, requests: number): Promise<number> {
  const engine = await startEngine({ model: modelName, modelsDir, device: 'cpu', stepTimeoutMs: 60_000 })
  try {
    let largest = 0
    const ended = new AbortController()
    const watch = async (): Promise<void> => {
      while (!ended.signal.aborted) largest = Math.max(largest, (await engine.stats()).memoryBytes)
    }
    let begun = 0
    const client = async (): Promise<void> => {
      while (begun < requests) {
        const n = begun++
        const { prompt } = toRequest(n)
        await engine.generate(String(n), {
          prompt: String(prompt),
          negativePrompt: '',
          width: 128,
          height: 128,
          numInferenceSteps: steps,
          guidanceScale: 4,
          numImagesPerPrompt: 1,
          seed: n,
          maxSequenceLength: 20,
        })
      }
      ended.abort()
    }
    await Promise.all([...Array.from({ length: inFlight }, client), watch()])
    return largest / 2 ** 20
  } finally {
    await engine.close()
  }
}
