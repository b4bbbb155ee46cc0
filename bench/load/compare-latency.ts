/** Compares the engine with another way to serve, in virtual time, on the same traces of mixed requests, with step times measured in this run. */
import { batchPolicies } from '@easel/pipeline'
import { median, quantile, toMeasured } from '../harness/rounds.ts'
import type { RowResult } from '../harness/row.ts'
import { chooserOf, simulateEngine } from '../simulator.ts'
import type { DeviceTimes, Latencies, TraceJob } from '../simulator.ts'
import { describeRowCosts, measureDeviceTimes } from './device-times.ts'
import { mean, traceAt } from './traces.ts'
import type { Capacity } from './traces.ts'

/** The numbers of steps, all equally likely. */
const steps = [4, 28, 50]

/** The mean and the p99 latency of the engine, divided by those of `simulateOther`. Each pair has another seed. */
export async function compareLatency(
  pairs: number,
  simulateOther: (trace: readonly TraceJob[], times: DeviceTimes) => Latencies,
): Promise<RowResult> {
  const times = await measureDeviceTimes()
  const ratiosAt = (capacity: Capacity, options: { maxInFlight?: number } = {}): { mean: number; p99: number }[] =>
    Array.from({ length: pairs }, (_, seed) => {
      const trace = traceAt(capacity, times, steps, seed + 1)
      const engine = simulateEngine(trace, times, batchPolicies.srpt, options)
      const other = simulateOther(trace, times)
      return { mean: mean(engine) / mean(other), p99: quantile(engine, 0.99) / quantile(other, 0.99) }
    })
  const ratios = ratiosAt('engine')
  const middle = (of: typeof ratios): string =>
    (['mean', 'p99'] as const).map((name) => `${name} ${median(of.map((ratio) => ratio[name])).toFixed(3)}`).join(', ')
  return {
    measured: [toMeasured(ratios.map(({ mean }) => mean)), toMeasured(ratios.map(({ p99 }) => p99))],
    controls: {
      'at the load that first come can carry': middle(ratiosAt('firstCome')),
      'eight in flight, as a worker takes them': middle(ratiosAt('engine', { maxInFlight: 8 })),
      'cost of a row by rows a step': describeRowCosts(times),
      'rows a step at most': String(chooserOf(times).rows),
    },
  }
}
