/**
 * Row 13: the worker's main process stays responsive while the engine is saturated.
 *
 * p99 of the delay of its event loop, in milliseconds, with eight jobs in flight on the real engine: locks are renewed, progress written and PNG
 * made in that process while the child keeps every core busy. Not a ratio; a round is one slot of jobs.
 * Control: the same process with no job, what the machine itself does to a timer.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { runInFlight } from '../load/closed-loop.ts'
import { openStack } from '../stack/open-stack.ts'
import type { BenchWorker } from '../stack/open-stack.ts'

const inFlight = 8
const jobs = 12

export const row: Row = {
  id: 13,
  claims: [{ name: 'event-loop delay of the worker’s main process, engine saturated, p99, ms', target: '<= 10' }],
  controls: 'Control: the same process at rest.',
  async run({ pairs }) {
    const stack = await openStack([{}])
    try {
      const worker = stack.workers[0] as BenchWorker
      const p99 = async (work: () => Promise<unknown>): Promise<number> => {
        await worker.readLoopDelay()
        await work()
        return (await worker.readLoopDelay()).p99Ms
      }
      const rounds = await runRounds(pairs, {
        saturated: () =>
          p99(() => runInFlight(inFlight, jobs, (n) => stack.makePicture({ prompt: `scene ${n}`, num_inference_steps: 8, seed: n }))),
        idle: () => p99(() => sleep(200)),
      })
      return {
        measured: [toMeasured(rounds.map(({ saturated }) => saturated))],
        controls: { 'at rest': `${median(rounds.map(({ idle }) => idle)).toFixed(1)} ms` },
      }
    } finally {
      await stack.close()
    }
  },
}
