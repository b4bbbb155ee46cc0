/**
 * Row 10: fifty requests in flight need little more memory than one.
 *
 * Left: largest resident memory of an engine process with 50 requests in flight. Right: with 1. Each slot starts a fresh engine process
 * through the worker's own supervisor, because a runtime keeps what it has once taken. Only the latents and the activations of a
 * larger step may grow; weights, graphs and buffers are shared.
 * Control: what 50 replicas of the process would take, the memory of one times 50.
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { modelName } from '../load/bench-model.ts'
import { measureEngineMemory } from '../load/engine-memory.ts'

export const row: Row = {
  id: 10,
  claims: [{ name: 'resident memory of the engine, 50 in flight / 1 in flight', target: '<= 1.3' }],
  controls: 'Control: the memory of 50 replicas.',
  async run({ pairs }) {
    const measureMib = (inFlight: number, requests: number) => async (): Promise<number> =>
      (await measureEngineMemory({ model: modelName, inFlight, requests })).largestMib
    const rounds = await runRounds(pairs, { many: measureMib(50, 50), one: measureMib(1, 4) })
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
