/**
 * Row 4: latency of mixed requests under heavy load, against a server that runs one request after another.
 *
 * Requests of 4, 28 and 50 steps, equally likely, arrive at random (Poisson) at 0.95 of what the engine can carry. Both sides serve the same
 * seeded trace of 400 requests in virtual time, from step times measured in this run: left the engine's real policy at its real knee, right
 * first come, first served, to the end. Each pair is another seed. Latency is from arrival to picture.
 * Where batching pays, this load is more than the right side can carry: its queue grows as long as the trace lasts. So the control is the
 * same at 0.95 of what the right side can carry, which leaves the engine with room: there the difference is smaller, and is order and sharing
 * alone.
 */
import { batchPolicies } from '@easel/pipeline'
import { median, quantile, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { describeRowCosts, measureDeviceTimes } from '../load/device-times.ts'
import { mean, traceAt } from '../load/traces.ts'
import type { Capacity } from '../load/traces.ts'
import { chooserOf, simulateEngine, simulateFirstCome } from '../simulator.ts'

const steps = [4, 28, 50]

export const row: Row = {
  id: 4,
  claims: [
    { name: 'mean latency, 4/28/50 steps at 0.95 of capacity / first come, run to completion', target: '<= 0.35' },
    { name: 'p99 latency of the same', target: '<= 0.40' },
  ],
  controls: 'Control: the load at 0.95 of what first come, run to completion can carry.',
  async run({ pairs }) {
    const times = await measureDeviceTimes()
    const ratiosAt = (capacity: Capacity): { mean: number; p99: number }[] =>
      Array.from({ length: pairs }, (_, seed) => {
        const trace = traceAt(capacity, times, steps, seed + 1)
        const [engine, firstCome] = [simulateEngine(trace, times, batchPolicies.srpt), simulateFirstCome(trace, times)]
        return { mean: mean(engine) / mean(firstCome), p99: quantile(engine, 0.99) / quantile(firstCome, 0.99) }
      })
    const ratios = ratiosAt('engine')
    const lighter = ratiosAt('firstCome')
    return {
      measured: [toMeasured(ratios.map(({ mean }) => mean)), toMeasured(ratios.map(({ p99 }) => p99))],
      controls: {
        'at the load that first come can carry': `mean ${median(lighter.map(({ mean }) => mean)).toFixed(3)}, p99 ${median(lighter.map(({ p99 }) => p99)).toFixed(3)}`,
        'cost of a row by rows a step': describeRowCosts(times),
        'rows a step at most': String(chooserOf(times).rows),
      },
    }
  },
}
