/**
 * Row 9: a prompt that is used again costs no encoding.
 *
 * Left: encoding time of a request whose prompt was used before. Right: of a request with a new prompt. Both as the engine reports it in its
 * timings, one request at a time, the empty negative prompt cached on both sides.
 * Control: what the cache saves of a whole request, compared with what leaving out one of its 20 steps would save: a cache that saves less than
 * a step would be an optimisation of the wrong thing.
 */
import { RequestScopedPipeline } from '@easel/pipeline'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { toRequest } from '../load/in-flight.ts'

const steps = 20
/** The number of encodings in a slot. Their median counts, because a single one is shorter than many pauses of the machine. */
const perSlot = 9

export const row: Row = {
  id: 9,
  claims: [{ name: 'encoding time of a repeated prompt / of a new one', target: '<= 0.02' }],
  controls: 'Control: the saving in steps of a request.',
  async run({ pairs }) {
    const pipeline = await openModel()
    try {
      const scoped = new RequestScopedPipeline(pipeline)
      let fresh = 0
      const encodeMs = async (prompt: () => string): Promise<number> => {
        const times: number[] = []
        for (let n = 0; n < perSlot; n++) {
          const { timings } = await scoped.generate(toRequest(n, { prompt: prompt(), numInferenceSteps: 1 }))
          times.push(timings.encodeMs)
        }
        return median(times)
      }
      const rounds = await runRounds(pairs, {
        repeated: () => encodeMs(() => 'a lighthouse in the evening'),
        fresh: () => encodeMs(() => `a lighthouse, picture ${fresh++}`),
        request: async () => (await scoped.generate(toRequest(0, { numInferenceSteps: steps }))).timings.denoiseMs,
      })
      const freshMs = median(rounds.map(({ fresh }) => fresh))
      const stepMs = median(rounds.map(({ request }) => request)) / steps
      return {
        measured: [toMeasured(rounds.map(({ repeated, fresh }) => repeated / fresh))],
        controls: {
          'new prompt': `${freshMs.toFixed(2)} ms`,
          'repeated prompt': `${median(rounds.map(({ repeated }) => repeated)).toFixed(3)} ms`,
          'the saving is worth': `${(freshMs / stepMs).toFixed(2)} of ${steps} steps of a request alone`,
        },
      }
    } finally {
      await pipeline.close()
    }
  },
}
