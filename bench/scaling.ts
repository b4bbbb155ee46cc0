/**
 * Throughput of one, two and three workers, as a share of linear.
 *
 * The engine is the null engine with steps of a fixed time, so that the cores of this machine are not the limit: what is measured is whether queue,
 * Redis, api and workers let three workers do three times the work. Each number of workers serves a model of its own, so all of them run from
 * the start and the slots can take turns; a worker without jobs costs nothing. In a slot, twice as many clients as the workers have places keep
 * them busy.
 * Linear is the rate of the one worker in the same round, times the workers.
 */
import { median, runRounds, toMeasured } from './harness/rounds.ts'
import { describeHardware, describeLoad, readCommit, toJsonLine, toReported, toTableLines } from './harness/report.ts'
import type { Row } from './harness/row.ts'
import { runInFlight } from './load/closed-loop.ts'
import { openStack } from './stack/open-stack.ts'

const counts = [1, 2, 3] as const
const stepMs = 50
const steps = 10
const concurrency = 8
/** The number of jobs for each worker in a slot: enough that the beginning and the end of a slot hardly matter. */
const jobsPerWorker = concurrency * 6

const row: Row = {
  id: 1,
  claims: ([2, 3] as const).map((count) => ({ name: `throughput of ${count} workers / ${count} × one worker`, target: '>= 0.95' })),
  controls: `Null engine, ${steps} steps of ${stepMs} ms, ${concurrency} jobs at once in each worker.`,
  async run({ pairs }) {
    const stack = await openStack(
      counts.flatMap((count) => Array.from({ length: count }, () => ({ model: `null-${count}`, nullStepMs: stepMs, concurrency }))),
    )
    try {
      const rateOf = (count: number) => async (): Promise<number> => {
        const jobs = jobsPerWorker * count
        const request = { model: `null-${count}`, num_inference_steps: steps, width: 16, height: 16 }
        const ms = await runInFlight(concurrency * 2 * count, jobs, (n) => stack.makePicture({ ...request, prompt: `picture ${n}` }))
        return (jobs / ms) * 1000
      }
      const rounds = await runRounds(pairs, { one: rateOf(1), two: rateOf(2), three: rateOf(3) })
      const rate = (slot: 'one' | 'two' | 'three'): string => `${median(rounds.map((round) => round[slot])).toFixed(1)} jobs a second`
      return {
        measured: [toMeasured(rounds.map(({ one, two }) => two / one / 2)), toMeasured(rounds.map(({ one, three }) => three / one / 3))],
        controls: {
          'one worker': `${rate('one')}, at most ${((concurrency * 1000) / (steps * stepMs)).toFixed(1)}`,
          'two workers': rate('two'),
          'three workers': rate('three'),
        },
      }
    } finally {
      await stack.close()
    }
  },
}

export async function runScaling(pairs: number): Promise<number> {
  console.log(`Easel scaling, commit ${readCommit()}, ${describeHardware()}, ${describeLoad()}; ${pairs} rounds. ${row.controls}`)
  const result = await row.run({ pairs })
  for (const [name, value] of Object.entries(result.controls)) console.log(`${name}: ${value}`)
  const rows = toReported(row, result)
  console.log(toTableLines(rows).join('\n'))
  console.log(toJsonLine(rows))
  return 0
}
