/**
 * Row 15: reporting progress and storing pictures do not slow the engine down.
 *
 * Left: all that a worker does for a job, with progress after every step, a preview every second step, PNG and upload. Right: the same
 * requests on the same engine process, with the pictures discarded and nothing reported. Eight in flight on both sides, counted while all eight
 * are active. The record in Redis, its start and its end are on the left side too; HTTP and queue are on neither (row 14 includes them).
 * Control: the left side without previews.
 */
import type { JobInput } from '@easel/contract'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { timeSteadily } from '../load/closed-loop.ts'
import { openJobRunner } from '../stack/open-job-runner.ts'

const inFlight = 8
const jobs = 10
const previewEvery = 2

const inputOf = (n: number): JobInput => ({
  model: 'tiny-scenes',
  prompt: `scene ${n % 20}: a red boat on the sea`,
  negative_prompt: '',
  width: 128,
  height: 128,
  num_inference_steps: 8,
  guidance_scale: 4,
  num_images_per_prompt: 1,
  seed: n,
  max_sequence_length: 20,
  output_format: 'png',
})

export const row: Row = {
  id: 15,
  claims: [{ name: 'throughput with progress, previews, PNG and upload / without', target: '>= 0.95' }],
  controls: 'Control: without previews.',
  async run({ pairs }) {
    const runner = await openJobRunner()
    try {
      const rounds = await runRounds(pairs, {
        on: () => timeSteadily(inFlight, jobs, (n) => runner.runJob(inputOf(n), { previewEvery })),
        off: () => timeSteadily(inFlight, jobs, (n) => runner.runBare(inputOf(n))),
        noPreviews: () => timeSteadily(inFlight, jobs, (n) => runner.runJob(inputOf(n))),
      })
      return {
        measured: [toMeasured(rounds.map(({ on, off }) => off / on))],
        controls: { 'without previews': median(rounds.map(({ noPreviews, off }) => off / noPreviews)).toFixed(3) },
      }
    } finally {
      await runner.close()
    }
  },
}
