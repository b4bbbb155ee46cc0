/**
 * The traces of rows 4 to 6 and how heavy they are. Load is a share of capacity, and there are two capacities: that of a server that runs one
 * request after another, and that of the engine at its knee, which is higher where batching pays.
 */
import { aloneMs, chooserOf, makeTrace } from '../simulator.ts'
import type { DeviceTimes, TraceJob } from '../simulator.ts'

/** The offered load as a share of capacity. */
const offeredLoad = 0.95
const jobsPerTrace = 400

/** The server whose capacity counts. */
export type Capacity = 'firstCome' | 'engine'

export function traceAt(capacity: Capacity, times: DeviceTimes, steps: readonly number[], seed: number): TraceJob[] {
  const { rowMs } = chooserOf(times)
  const costs = steps.map((count) => {
    const job = { arrivesAt: 0, steps: count, rows: 2 }
    return capacity === 'engine' ? count * job.rows * rowMs + times.decodeMs : aloneMs(job, times)
  })
  const meanMs = costs.reduce((sum, ms) => sum + ms, 0) / costs.length
  return makeTrace({ seed, jobs: jobsPerTrace, meanGapMs: meanMs / offeredLoad, steps })
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
