/**
 * Row 12: how long a client waits for everything but the engine.
 *
 * From the first byte of `POST /v1/jobs` with `Prefer: wait` to the whole answer, as the client's clock sees it, less the time that the engine
 * says it took. The engine is the null engine with steps of 5 ms; one client, so that no job waits for another. Not a ratio: the value is
 * in milliseconds, and a round is one slot of jobs.
 * Controls: an answer of the same api that needs no job (`GET /v1/capabilities` is not cached), the floor of HTTP on this machine; four
 * clients, whose jobs end with the same step and share two cores for what comes after it.
 */
import { median, quantile, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { runInFlight } from '../load/closed-loop.ts'
import { openStack } from '../stack/open-stack.ts'

const jobs = 100
/** The number of jobs in the controls. */
const fewer = 40

export const row: Row = {
  id: 12,
  claims: [
    { name: 'job latency less engine time, p50, ms', target: '<= 5' },
    { name: 'the same, p99, ms', target: '<= 25' },
  ],
  controls: 'Controls: an answer of the api without a job; four clients.',
  async run({ pairs }) {
    const stack = await openStack([{ model: 'null', nullStepMs: 5 }])
    try {
      let p99 = 0
      const measure = async (clients: number, jobs: number): Promise<number[]> => {
        const overheads: number[] = []
        await runInFlight(clients, jobs, async (n) => {
          const startedAt = performance.now()
          const { timings } = await stack.makePicture({ prompt: `picture ${n}`, model: 'null', num_inference_steps: 4 })
          const engineMs = (timings?.encode_ms ?? 0) + (timings?.denoise_ms ?? 0) + (timings?.decode_ms ?? 0)
          overheads.push(performance.now() - startedAt - engineMs)
        })
        return overheads
      }
      const rounds = await runRounds(pairs, {
        p50: async () => {
          const overheads = await measure(1, jobs)
          p99 = quantile(overheads, 0.99)
          return median(overheads)
        },
        // From the same slot, because the order of the slots rotates and the first slot of a round may use a value of the round before.
        p99: async () => p99,
        http: async () => (await runInFlight(1, fewer, () => stack.get('/v1/capabilities'))) / fewer,
        four: async () => median(await measure(4, fewer)),
      })
      const p50s = rounds.map(({ p50 }) => p50)
      return {
        measured: [toMeasured(p50s), toMeasured(rounds.map(({ p99 }) => p99))],
        controls: {
          'GET /v1/capabilities': `${median(rounds.map(({ http }) => http)).toFixed(1)} ms`,
          'four clients, p50': `${median(rounds.map(({ four }) => four)).toFixed(1)} ms`,
        },
      }
    } finally {
      await stack.close()
    }
  },
}
