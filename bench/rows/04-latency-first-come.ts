/**
 * Row 4: latency of mixed requests under heavy load, against a server that runs one request after another.
 *
 * Requests of 4, 28 and 50 steps, equally likely, arrive at random (Poisson) at 0.95 of what the engine can carry. Both sides serve the same
 * seeded trace of 400 requests in virtual time, from step times measured in this run: left the engine's real policy at its real knee, right
 * first come, first served, to the end. Each pair is another seed. Latency is from arrival to picture.
 * Where batching pays, this load is more than the right side can carry: its queue grows as long as the trace lasts. So the control is the
 * same at 0.95 of what the right side can carry, where the engine is not fully loaded: there the difference is smaller, and comes from the order
 * of work and shared steps alone.
 */
import type { Row } from '../harness/row.ts'
import { compareLatency } from '../load/compare-latency.ts'
import { simulateFirstCome } from '../simulator.ts'

export const row: Row = {
  id: 4,
  claims: [
    { name: 'mean latency, 4/28/50 steps at 0.95 of capacity / first come, run to completion', target: '<= 0.35' },
    { name: 'p99 latency of the same', target: '<= 0.40' },
  ],
  controls: 'Control: the load at 0.95 of what first come, run to completion can carry.',
  run: ({ pairs }) => compareLatency(pairs, simulateFirstCome),
}
