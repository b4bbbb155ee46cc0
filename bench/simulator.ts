/**
 * Three ways to serve one trace of requests on one device, in virtual time.
 *
 *   engine      continuous batching as the engine does it: the real policy (`selectBatch`) and the real knee (`BatchProfile`)
 *   firstCome   one request after another, each from its first step to its picture
 *   static      up to eight waiting requests at once, first come first; all run as many steps as the longest of them needs
 *
 * Invariant: pure. The same trace and the same device times give the same latencies; no clock, no randomness, no model. Decoding follows the
 * rule of the device's queue: after a step one picture is decoded, if one waits. Encoding is cached and costs nothing on any side.
 */
import { BatchProfile, selectBatch, ServedTimes } from '@easel/pipeline'
import type { BatchPolicy, WaitingCall } from '@easel/pipeline'

export interface DeviceTimes {
  /** The measured milliseconds of a step by number of rows. Other numbers of rows are interpolated. */
  readonly stepMs: Readonly<Record<number, number>>
  /** The milliseconds of decoding one picture. */
  readonly decodeMs: number
}

export interface TraceJob {
  /** In milliseconds from the start of the trace. */
  readonly arrivesAt: number
  /** From 1. */
  readonly steps: number
  /** The number of rows in each step, 2 with guidance. */
  readonly rows: number
  /** The owner of the request. Default: one owner for all. */
  readonly owner?: string
  /** The share of the owner, above 0. Default: 1. */
  readonly weight?: number
}

/** The milliseconds from arrival to picture, in the order of the trace. */
export type Latencies = readonly number[]

/** One shape for all: rows 4 to 6 are about the order of work. */
const onlyShape = 'all'

export function stepMsOf({ stepMs }: DeviceTimes, rows: number): number {
  const known = Object.keys(stepMs)
    .map(Number)
    .sort((a, b) => a - b)
  const above = known.find((count) => count >= rows)
  const below = known.findLast((count) => count <= rows)
  const last = known.at(-1)
  if (last === undefined) throw new Error('Expected at least one step time, got none')
  // Above the measured numbers a row costs as much as at the largest of them; below, a step costs as much as the smallest one.
  if (above === undefined) return ((stepMs[last] as number) / last) * rows
  if (below === undefined || above === below) return stepMs[above] as number
  const [low, high] = [stepMs[below] as number, stepMs[above] as number]
  return low + ((high - low) * (rows - below)) / (above - below)
}

/** What the engine itself chooses from these times: the rows of a step by the number that wait, and the cost of a row when many wait. */
export function chooserOf(times: DeviceTimes): { rowsFor: (waiting: number) => number; rows: number; rowMs: number } {
  const most = Math.max(...Object.keys(times.stepMs).map(Number))
  const profile = new BatchProfile({ maxRows: most })
  profile.restore({ [onlyShape]: { ...times.stepMs } })
  const rowsFor = (waiting: number): number => profile.rowsFor(onlyShape, waiting)
  const rows = rowsFor(Infinity)
  return { rowsFor, rows, rowMs: stepMsOf(times, rows) / rows }
}

interface RunningJob extends WaitingCall {
  readonly job: TraceJob
  rows: number
  stepsLeft: number
  remainingMs: number
  stepMs: number
  servedMs: number
}

/** `maxInFlight`: how many requests the engine holds at once; the others wait in order of arrival. Default: no limit. */
export function simulateEngine(
  trace: readonly TraceJob[],
  times: DeviceTimes,
  policy: BatchPolicy,
  { maxInFlight = Infinity }: { maxInFlight?: number } = {},
): Latencies {
  const latencies: number[] = []
  const chooser = chooserOf(times)
  const served = new ServedTimes()
  let waiting: RunningJob[] = []
  const undecoded: RunningJob[] = []
  let arrived = 0
  let left = trace.length
  let nowMs = 0
  const arrive = (): void => {
    const isFull = (): boolean => waiting.length + undecoded.length >= maxInFlight
    for (let job = trace[arrived]; job !== undefined && job.arrivesAt <= nowMs && !isFull(); job = trace[++arrived]) {
      const remainingMs = job.steps * job.rows * chooser.rowMs
      const { rows, steps: stepsLeft, arrivesAt: arrivedAtMs } = job
      const { owner = '', weight = 1 } = job
      const stepMs = rows * chooser.rowMs
      waiting.push({ order: arrived, shape: onlyShape, job, rows, stepsLeft, arrivedAtMs, remainingMs, stepMs, owner, weight, servedMs: 0 })
    }
  }

  while (left > 0) {
    if (waiting.length + undecoded.length === 0) nowMs = Math.max(nowMs, trace[arrived]?.arrivesAt ?? nowMs)
    arrive()
    // 1. One step for the rows whose turn it is
    for (const call of waiting) call.servedMs = served.of(call.owner)
    const batch = selectBatch(waiting, policy, nowMs, (_, rows) => chooser.rowsFor(rows))
    if (batch[0] !== undefined) {
      const stepRows = batch.reduce((sum, { rows }) => sum + rows, 0)
      const durationMs = stepMsOf(times, stepRows)
      nowMs += durationMs
      served.advance(batch[0].call.owner)
      for (const { call, rows } of batch) {
        served.add(call.owner, call.weight, (durationMs * rows) / stepRows)
        call.rows -= rows
        if (call.rows > 0) continue
        call.rows = call.job.rows
        call.stepsLeft--
        call.remainingMs = call.stepsLeft * call.job.rows * chooser.rowMs
        if (call.stepsLeft === 0) undecoded.push(call)
      }
      waiting = waiting.filter(({ stepsLeft }) => stepsLeft > 0)
    }
    // 2. One picture, if one waits
    const done = undecoded.shift()
    if (done === undefined) continue
    nowMs += times.decodeMs
    latencies[done.order] = nowMs - done.job.arrivesAt
    left--
  }
  return latencies
}

export function simulateFirstCome(trace: readonly TraceJob[], times: DeviceTimes): Latencies {
  let nowMs = 0
  return trace.map((job) => {
    nowMs = Math.max(nowMs, job.arrivesAt) + job.steps * stepMsOf(times, job.rows) + times.decodeMs
    return nowMs - job.arrivesAt
  })
}

/** `size`: the most requests in a batch. Their pictures are decoded one after another when all steps are done, and are handed out together. */
export function simulateStatic(trace: readonly TraceJob[], times: DeviceTimes, size = 8): Latencies {
  const latencies: number[] = []
  let nowMs = 0
  for (let first = 0; first < trace.length;) {
    nowMs = Math.max(nowMs, (trace[first] as TraceJob).arrivesAt)
    let end = first
    while (end < trace.length && end - first < size && (trace[end] as TraceJob).arrivesAt <= nowMs) end++
    const batch = trace.slice(first, end)
    const rows = batch.reduce((sum, job) => sum + job.rows, 0)
    nowMs += Math.max(...batch.map(({ steps }) => steps)) * stepMsOf(times, rows) + batch.length * times.decodeMs
    for (const { arrivesAt } of batch) latencies.push(nowMs - arrivesAt)
    first = end
  }
  return latencies
}

/** The milliseconds of device time that a request takes when it runs alone. */
export function aloneMs(job: TraceJob, times: DeviceTimes): number {
  return job.steps * stepMsOf(times, job.rows) + times.decodeMs
}

/**
 * A Poisson stream of requests with guidance, each number of steps equally likely. `meanGapMs`: mean time between two arrivals. The same seed
 * gives the same stream; another gap only stretches it.
 */
export function makeTrace(options: { seed: number; jobs: number; meanGapMs: number; steps: readonly number[] }): TraceJob[] {
  const random = mulberry32(options.seed)
  let arrivesAt = 0
  return Array.from({ length: options.jobs }, () => {
    arrivesAt -= Math.log(1 - random()) * options.meanGapMs
    return { arrivesAt, steps: options.steps[Math.floor(random() * options.steps.length)] as number, rows: 2 }
  })
}

/** Seeded numbers in [0, 1), by the Mulberry32 method. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
