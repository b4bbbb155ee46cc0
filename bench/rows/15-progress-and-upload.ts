/**
 * Row 15: telling and storing do not slow the engine down.
 *
 * Left: jobs through all of Easel with progress after every step, a preview every second step, PNG and upload. Right: the same requests on the
 * engine in this process, pictures made and dropped, nothing told: eight in flight on both sides, counted while all eight are at it.
 * HTTP, queue and record are on the left side too, so the ratio is a lower bound.
 * Control: the left side without previews.
 */
import { RequestScopedPipeline } from '@easel/pipeline'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { toRequest } from '../load/in-flight.ts'
import { timeSteadily } from '../load/closed-loop.ts'
import { openStack } from '../stack/open-stack.ts'

const inFlight = 8
const jobs = 12
const steps = 8

export const row: Row = {
  id: 15,
  claims: [{ name: 'throughput with progress, previews, PNG and upload / without', target: '>= 0.95' }],
  controls: 'Control: without previews.',
  async run({ pairs }) {
    const stack = await openStack([{}])
    const pipeline = await openModel()
    const scoped = new RequestScopedPipeline(pipeline)
    try {
      const through = (extra: object) => async (): Promise<number> =>
        await timeSteadily(inFlight, jobs, (n) =>
          stack.makePicture({ prompt: `scene ${n}: a red boat on the sea`, num_inference_steps: steps, seed: n, ...extra }),
        )
      const rounds = await runRounds(pairs, {
        on: through({ preview_every: 2 }),
        off: () => timeSteadily(inFlight, jobs, (n) => scoped.generate(toRequest(n, { numInferenceSteps: steps, outputType: 'rgb8' }))),
        noPreviews: through({}),
      })
      return {
        measured: [toMeasured(rounds.map(({ on, off }) => off / on))],
        controls: { 'without previews': median(rounds.map(({ noPreviews, off }) => off / noPreviews)).toFixed(3) },
      }
    } finally {
      await pipeline.close()
      await stack.close()
    }
  },
}
