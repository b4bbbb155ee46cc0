/**
 * Row 5: the same latency against static batching, what most servers that batch do.
 *
 * Left: as in row 4. Right: when the device is free, up to eight waiting requests start together and run as one batch, with as many steps as the
 * longest of them needs; what comes meanwhile waits. Same traces, same measured step times.
 * Controls: the p99, and both at the load that first come, run to completion can carry.
 */
import { batchPolicies } from '@easel/pipeline'
import { median, quantile, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { measureDeviceTimes } from '../load/device-times.ts'
import { mean, traceAt } from '../load/traces.ts'
import type { Capacity } from '../load/traces.ts'
import { simulateEngine, simulateStatic } from '../simulator.ts'

const steps = [4, 28, 50]

export const row: Row = {
  id: 5,
  claims: [
    { name: 'mean latency, 4/28/50 steps at 0.95 of capacity / static batches of eight', target: '<= 0.20' },
    { name: 'p99 latency of the same', target: '<= 0.20' },
  ],
  controls: 'Control: the load at 0.95 of what first come, run to completion can carry.',
  async run({ pairs }) {
    const times = await measureDeviceTimes()
    const ratiosAt = (capacity: Capacity): { mean: number; p99: number }[] =>
      Array.from({ length: pairs }, (_, seed) => {
        const trace = traceAt(capacity, times, steps, seed + 1)
        const [engine, batches] = [simulateEngine(trace, times, batchPolicies.srpt), simulateStatic(trace, times)]
        return { mean: mean(engine) / mean(batches), p99: quantile(engine, 0.99) / quantile(batches, 0.99) }
      })
    const ratios = ratiosAt('engine')
    const lighter = ratiosAt('firstCome')
    return {
      measured: [toMeasured(ratios.map(({ mean }) => mean)), toMeasured(ratios.map(({ p99 }) => p99))],
      controls: {
        'at the load that first come can carry': `mean ${median(lighter.map(({ mean }) => mean)).toFixed(3)}, p99 ${median(lighter.map(({ p99 }) => p99)).toFixed(3)}`,
      },
    }
  },
}
