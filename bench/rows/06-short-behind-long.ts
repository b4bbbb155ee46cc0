/**
 * Row 6: how much long requests slow down short ones.
 *
 * Slowdown is latency over the time the request takes alone. Requests of 4 and of 50 steps, equally likely, at 0.95 of capacity; the value is the
 * p99 of the slowdown of those with 4 steps. Left: the engine. Right: first come, run to completion. In virtual time, like row 4.
 * Controls: the slowdowns themselves; the price that the long ones pay; the engine under `fcfs`, which shows how much of it is sharing steps and
 * how much is shortest work first; the load that the right side can carry; and eight in flight, as a worker takes them.
 */
import { batchPolicies } from '@easel/pipeline'
import { median, quantile, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { measureDeviceTimes } from '../load/device-times.ts'
import { traceAt } from '../load/traces.ts'
import type { Capacity } from '../load/traces.ts'
import { aloneMs, simulateEngine, simulateFirstCome } from '../simulator.ts'
import type { Latencies } from '../simulator.ts'

const [short, long] = [4, 50] as const

export const row: Row = {
  id: 6,
  claims: [{ name: 'p99 slowdown of 4-step requests among 50-step ones / first come, run to completion', target: '<= 0.10' }],
  controls: 'Controls: slowdowns, what long requests pay, the policy fcfs, a load that first come can carry, eight in flight.',
  async run({ pairs }) {
    const times = await measureDeviceTimes()
    const slowdownsAt = (capacity: Capacity) =>
      Array.from({ length: pairs }, (_, seed) => {
        const trace = traceAt(capacity, times, [short, long], seed + 1)
        const p99 = (latencies: Latencies, steps: number): number =>
          quantile(
            trace.flatMap((job, index) => (job.steps === steps ? [(latencies[index] as number) / aloneMs(job, times)] : [])),
            0.99,
          )
        const engine = simulateEngine(trace, times, batchPolicies.srpt)
        const fcfs = simulateEngine(trace, times, batchPolicies.fcfs)
        const eight = simulateEngine(trace, times, batchPolicies.srpt, { maxInFlight: 8 })
        const firstCome = simulateFirstCome(trace, times)
        return {
          engine: p99(engine, short),
          firstCome: p99(firstCome, short),
          fcfs: p99(fcfs, short),
          eight: p99(eight, short),
          long: p99(engine, long) / p99(firstCome, long),
        }
      })
    const slowdowns = slowdownsAt('engine')
    const lighter = slowdownsAt('firstCome')
    const times3 = (value: number): string => `${value.toPrecision(3)}×`
    return {
      measured: [toMeasured(slowdowns.map(({ engine, firstCome }) => engine / firstCome))],
      controls: {
        'p99 slowdown, engine and first come': `${times3(median(slowdowns.map(({ engine }) => engine)))} and ${times3(median(slowdowns.map(({ firstCome }) => firstCome)))}`,
        'ratio for requests of 50 steps': median(slowdowns.map(({ long }) => long)).toFixed(3),
        'ratio under the policy fcfs': median(slowdowns.map(({ fcfs, firstCome }) => fcfs / firstCome)).toFixed(3),
        'eight in flight, as a worker takes them': median(slowdowns.map(({ eight, firstCome }) => eight / firstCome)).toFixed(3),
        'at the load that first come can carry': median(lighter.map(({ engine, firstCome }) => engine / firstCome)).toFixed(3),
      },
    }
  },
}
