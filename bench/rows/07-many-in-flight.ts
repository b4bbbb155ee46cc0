/**
 * Row 7: many requests in flight cost no throughput.
 *
 * Left: rows a second with 10, 25 and 50 requests in flight. Right: with 8. All at the default size, mixed prompts and seeds, latents only.
 * More in flight than a step takes means choosing among them, more promises and more memory touched: this row shows what that costs.
 * Control: rows a step at each level, that is, whether the choice of rows stays the same.
 */
import { runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { rowRate, runSteadily } from '../load/in-flight.ts'

const levels = [10, 25, 50] as const

export const row: Row = {
  id: 7,
  claims: levels.map((level) => ({ name: `throughput at ${level} in flight / 8 in flight`, target: '>= 0.97' })),
  controls: 'Control: rows a step at each level.',
  async run({ pairs }) {
    const pipeline = await openModel()
    try {
      for (const level of [8, 50]) await runSteadily(pipeline, level, { measureMs: 2000 })
      const rowsAStep = new Map<number, number>()
      const at = (level: number) => async (): Promise<number> => {
        const slot = await runSteadily(pipeline, level, { measureMs: 400, settleSteps: 2 })
        rowsAStep.set(level, slot.rows / slot.steps.length)
        return rowRate(slot)
      }
      const rounds = await runRounds(pairs, { base: at(8), at10: at(10), at25: at(25), at50: at(50) })
      return {
        measured: levels.map((level) => toMeasured(rounds.map((round) => round[`at${level}`] / round.base))),
        controls: Object.fromEntries([...rowsAStep].map(([level, rows]) => [`rows a step at ${level}`, rows.toFixed(1)])),
      }
    } finally {
      await pipeline.close()
    }
  },
}
