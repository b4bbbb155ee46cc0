/**
 * Row 3: batching never makes things worse where it does not pay.
 *
 * At 256 px, the largest picture of the model, a row alone keeps the machine busy, and more rows mostly exceed its caches.
 * Left: rows a second with eight requests in flight and the number of rows left to the engine. Right: the same load with at most one row a
 * step. The engine finds the knee by measuring; here it is low, and the time spent on finding it is part of the left side.
 * Control: what the plain `session.run` loop gives at 16 rows against 1, that is, what batching everything would have cost or gained.
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { rowRate, runSteadily } from '../load/in-flight.ts'
import { RawSession } from '../load/raw-session.ts'

const inFlight = 8
const side = 256
const params = { width: side, height: side }

export const row: Row = {
  id: 3,
  claims: [{ name: 'throughput at 256 px, rows chosen by measurement / one row a step', target: '>= 1.00' }],
  controls: 'Control: all 16 rows in one raw session.run, against one by one.',
  async run({ pairs }) {
    const [measuring, single] = [await openModel(), await openModel({ maxBatchRows: 1 })]
    try {
      const raw = await RawSession.open(single, side)
      await runSteadily(measuring, inFlight, { measureMs: 6000 }, params)
      let rowsAStep = 0
      const slot = { measureMs: 700, settleSteps: 1 }
      const rounds = await runRounds(pairs, {
        measuring: async () => {
          const result = await runSteadily(measuring, inFlight, slot, params)
          rowsAStep = result.rows / result.steps.length
          return rowRate(result)
        },
        single: async () => rowRate(await runSteadily(single, inFlight, slot, params)),
      })
      const all = await raw.runSteps([16])
      const alone = await raw.runSteps(Array.from({ length: 16 }, () => 1))
      return {
        measured: [toMeasured(rounds.map(({ measuring, single }) => measuring / single))],
        controls: {
          'all rows at once': `${(alone / all).toFixed(2)} of one by one`,
          'rows a step': rowsAStep.toFixed(1),
          'rows a second': median(rounds.map(({ measuring }) => measuring)).toFixed(1),
        },
      }
    } finally {
      await measuring.close()
      await single.close()
    }
  },
}
