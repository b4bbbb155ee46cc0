/**
 * A machine in virtual time: runs a trace of jobs through a policy on step times that were measured before, and says how long each took.
 *
 * Three ways to serve are compared. 'continuous' is the engine's own code for choosing rows (selectBatch of the pipeline library), asked
 * before every step. 'runToCompletion' runs one job at a time, in order of arrival. 'static' takes up to eight jobs that wait, runs them
 * together until the longest is done, and only then looks again.
 * Invariant: pure and deterministic; the same trace and times give the same result. Knows nothing about models, pixels or real clocks.
 */
import { selectBatch } from '@easel/pipeline'
import type { BatchPolicy, WaitingCall } from '@easel/pipeline'

export interface SimulatedJob {
  readonly arrivedAtMs: number
  readonly steps: number
  /** Rows in each of its steps: pictures, twice with guidance. */
  readonly rows: number
}

/** What the simulator has to know about the machine. */
export interface StepCost {
  /** Milliseconds of a step of so many rows. */
  readonly stepMs: (rows: number) => number
  /** Most rows in a step. */
  readonly maxRows: number
}

/** Milliseconds from arrival to the last step, one for each job. */
export type Latencies = number[]

/** Times of steps between the measured numbers of rows lie on the line between their neighbours, beyond them on the last row's price. */
export function interpolateStepMs(times: Readonly<Record<number, number>>): (rows: number) => number {
  const known = Object.entries(times)
    .map(([rows, ms]): [number, number] => [Number(rows), ms])
    .sort(([a], [b]) => a - b)
  const [first, last] = [known[0], known.at(-1)]
  if (first === undefined || last === undefined) throw new RangeError('Expected the time of at least one number of rows, got none')
  return (rows) => {
    const above = known.findIndex(([at]) => at >= rows)
    const upper = known[above]
    if (upper === undefined) return (last[1] / last[0]) * rows
    const lower = known[above - 1]
    if (lower === undefined) return upper[0] === rows ? upper[1] : (first[1] / first[0]) * rows
    return lower[1] + ((upper[1] - lower[1]) * (rows - lower[0])) / (upper[0] - lower[0])
  }
}

interface Running extends WaitingCall {
  readonly index: number
  /** Rows of its step that have not run. */
  rows: number
  remainingMs: number
  stepsLeft: number
}

/** Jobs join at any step, at most `inFlight` of them at once. */
export function simulateContinuous(jobs: readonly SimulatedJob[], cost: StepCost, policy: BatchPolicy, inFlight = Infinity): Latencies {
  const latencies: Latencies = []
  const arrivals = byArrival(jobs)
  const rowMs = cost.stepMs(cost.maxRows) / cost.maxRows
  let running: Running[] = []
  let nowMs = 0
  while (arrivals.length + running.length > 0) {
    if (running.length === 0) nowMs = Math.max(nowMs, arrivals[0]?.job.arrivedAtMs ?? nowMs)
    while (running.length < inFlight && arrivals[0] !== undefined && arrivals[0].job.arrivedAtMs <= nowMs) {
      const { job, index } = arrivals.shift() as Arrival
      const { arrivedAtMs, rows, steps } = job
      running.push({ index, order: index, shape: '', arrivedAtMs, rows, stepsLeft: steps, remainingMs: steps * rows * rowMs })
    }
    const batch = selectBatch(running, policy, nowMs, (_, waiting) => Math.min(waiting, cost.maxRows))
    nowMs += cost.stepMs(batch.reduce((sum, { rows }) => sum + rows, 0))
    for (const { call, rows } of batch) {
      call.rows -= rows
      call.remainingMs -= rows * rowMs
      if (call.rows > 0) continue
      call.stepsLeft--
      call.rows = (jobs[call.index] as SimulatedJob).rows
      if (call.stepsLeft === 0) latencies[call.index] = nowMs - call.arrivedAtMs
    }
    running = running.filter(({ stepsLeft }) => stepsLeft > 0)
  }
  return latencies
}

/** One job at a time. */
export function simulateRunToCompletion(jobs: readonly SimulatedJob[], { stepMs }: StepCost): Latencies {
  const latencies: Latencies = []
  let nowMs = 0
  for (const { job, index } of byArrival(jobs)) {
    nowMs = Math.max(nowMs, job.arrivedAtMs) + job.steps * stepMs(job.rows)
    latencies[index] = nowMs - job.arrivedAtMs
  }
  return latencies
}

/** Up to `batchJobs` jobs together, all until the longest is done: one step count for the batch, as servers that batch by request do. */
export function simulateStatic(jobs: readonly SimulatedJob[], { stepMs }: StepCost, batchJobs = 8): Latencies {
  const latencies: Latencies = []
  const arrivals = byArrival(jobs)
  let nowMs = 0
  while (arrivals[0] !== undefined) {
    nowMs = Math.max(nowMs, arrivals[0].job.arrivedAtMs)
    const late = arrivals.findIndex(({ job }) => job.arrivedAtMs > nowMs)
    const batch = arrivals.splice(0, Math.min(batchJobs, late === -1 ? arrivals.length : late))
    const rows = batch.reduce((sum, { job }) => sum + job.rows, 0)
    nowMs += Math.max(...batch.map(({ job }) => job.steps)) * stepMs(rows)
    for (const { job, index } of batch) latencies[index] = nowMs - job.arrivedAtMs
  }
  return latencies
}

interface Arrival {
  readonly job: SimulatedJob
  readonly index: number
}

function byArrival(jobs: readonly SimulatedJob[]): Arrival[] {
  return jobs.map((job, index) => ({ job, index })).sort((a, b) => a.job.arrivedAtMs - b.job.arrivedAtMs || a.index - b.index)
}
