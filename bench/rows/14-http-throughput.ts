/**
 * Row 14: pictures a minute through HTTP, against the bare graphs.
 *
 * Left: jobs of 8 steps through all of Easel with the real engine, from eight clients that each wait for their picture before they ask for the
 * next, counted while all eight are active. Right: a plain `session.run` loop in this process over the same transformer rows, all sixteen of
 * eight pictures in each run, and the same decodings one by one. Text encoding, schedulers, PNG, files, queue and HTTP are only on the left.
 * Control: the same jobs one at a time.
 */
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { RawSession } from '../load/raw-session.ts'
import { runInFlight, timeSteadily } from '../load/closed-loop.ts'
import { openStack } from '../stack/open-stack.ts'

const inFlight = 8
const jobs = 12
const steps = 8

export const row: Row = {
  id: 14,
  claims: [{ name: 'pictures a minute through HTTP at 8 in flight / raw session.run for the same rows and decodes', target: '>= 0.85' }],
  controls: 'Control: the same through HTTP one at a time.',
  async run({ pairs }) {
    const stack = await openStack([{}])
    const pipeline = await openModel()
    try {
      const raw = await RawSession.open(pipeline)
      const picture = (n: number) => stack.makePicture({ prompt: `scene ${n % 20}`, num_inference_steps: steps, seed: n })
      const rawRuns = Array.from({ length: (jobs / inFlight) * steps }, () => inFlight * 2)
      const perMinute = (count: number, ms: number): number => (count / ms) * 60_000
      const rounds = await runRounds(pairs, {
        http: async () => perMinute(jobs, await timeSteadily(inFlight, jobs, picture)),
        raw: async () => perMinute(jobs, (await raw.runSteps(rawRuns)) + (await raw.runDecodes(jobs))),
        alone: async () => perMinute(2, await runInFlight(1, 2, picture)),
      })
      const rate = (slot: 'http' | 'raw' | 'alone'): string => `${median(rounds.map((round) => round[slot])).toFixed(0)} a minute`
      return {
        measured: [toMeasured(rounds.map(({ http, raw }) => http / raw))],
        controls: { HTTP: rate('http'), raw: rate('raw'), 'HTTP, one at a time': rate('alone') },
      }
    } finally {
      await pipeline.close()
      await stack.close()
    }
  },
}
