/**
 * Row 5: the same latency against static batching, which is what most batching servers do.
 *
 * Left: as in row 4. Right: when the device is free, up to eight waiting requests start together and run as one batch, with as many steps as the
 * longest of them needs; what comes meanwhile waits. Same traces, same measured step times.
 * Controls: the p99, and both at the load that first come, run to completion can carry.
 */
import type { Row } from '../harness/row.ts'
import { compareLatency } from '../load/compare-latency.ts'
import { simulateStatic } from '../simulator.ts'

export const row: Row = {
  id: 5,
  claims: [
    { name: 'mean latency, 4/28/50 steps at 0.95 of capacity / static batches of eight', target: '<= 0.20' },
    { name: 'p99 latency of the same', target: '<= 0.20' },
  ],
  controls: 'Control: the load at 0.95 of what first come, run to completion can carry.',
  run: ({ pairs }) => compareLatency(pairs, simulateStatic),
}
