/**
 * Row 8: guidance on half of the steps.
 *
 * Left: time of eight requests at 192 px with `guidanceInterval: [0, 0.5]`, which leaves the negative row out of the second half. Right: the
 * same requests with guidance on all steps. Three rows instead of four: 0.75 is what rows of equal cost would give.
 * Control: one request alone, where a step of one row costs more than half of a step of two.
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { runRequests, runSteadily } from '../load/in-flight.ts'

const inFlight = 8
const full = { width: 192, height: 192, numInferenceSteps: 2 }
const half = { ...full, guidanceInterval: [0, 0.5] as const }

export const row: Row = {
  id: 8,
  claims: [{ name: 'time with guidance on half of the steps / on all, 8 in flight at 192 px', target: '<= 0.80' }],
  controls: 'Control: the same with one request alone.',
  async run({ pairs }) {
    const pipeline = await openModel()
    try {
      await runSteadily(pipeline, inFlight, { measureMs: 2500 }, full)
      const rounds = await runRounds(pairs, {
        half: async () => (await runRequests(pipeline, inFlight, inFlight, half)).ms,
        full: async () => (await runRequests(pipeline, inFlight, inFlight, full)).ms,
        halfAlone: async () => (await runRequests(pipeline, 1, 1, half)).ms,
        fullAlone: async () => (await runRequests(pipeline, 1, 1, full)).ms,
      })
      return {
        measured: [toMeasured(rounds.map(({ half, full }) => half / full))],
        controls: { alone: median(rounds.map(({ halfAlone, fullAlone }) => halfAlone / fullAlone)).toFixed(2) },
      }
    } finally {
      await pipeline.close()
    }
  },
}
