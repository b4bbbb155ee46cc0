/**
 * Row 2: what the engine costs around the graph.
 *
 * Left: rows a second through the engine with eight requests in flight: packing, unpacking, guidance, schedulers, promises and the turn of
 * the event loop before each run. Right: a plain `session.run` loop over exactly the row counts of the steps just measured.
 * 1.00 would mean that nothing but the graph takes time.
 * Controls: the share of the steps' own time that was spent inside the runtime, which shows the two parts of the overhead apart: around the
 * run (packing) and between two runs (the requests).
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { runSteadily } from '../load/in-flight.ts'
import { RawSession } from '../load/raw-session.ts'

const inFlight = 8

export const row: Row = {
  id: 2,
  claims: [{ name: 'engine throughput / raw session.run loop at the same rows', target: '>= 0.95' }],
  controls: 'Control: share of a step that is the graph itself.',
  async run({ pairs }) {
    const pipeline = await openModel()
    try {
      const raw = await RawSession.open(pipeline)
      await runSteadily(pipeline, inFlight, { measureMs: 2000 })
      let steps: readonly number[] = []
      // The raw side repeats the steps of the last engine slot. Counted per row, because in every second round those are the steps of the round before.
      const perRow = (ms: number): number => ms / steps.reduce((sum, rows) => sum + rows, 0)
      const before = pipeline.engineStats()
      const rounds = await runRounds(pairs, {
        engine: async () => {
          const slot = await runSteadily(pipeline, inFlight, { measureMs: 700 })
          steps = slot.steps
          return perRow(slot.ms)
        },
        raw: async () => perRow(await raw.runSteps(steps)),
      })
      const after = pipeline.engineStats()
      return {
        measured: [toMeasured(rounds.map(({ engine, raw }) => raw / engine))],
        controls: {
          'inside the runtime': `${(((after.runMs - before.runMs) / (after.stepMs - before.stepMs)) * 100).toFixed(1)} % of a step`,
          'a row takes': `${median(rounds.map(({ engine }) => engine)).toFixed(2)} ms, raw ${median(rounds.map(({ raw }) => raw)).toFixed(2)} ms`,
        },
      }
    } finally {
      await pipeline.close()
    }
  },
}
