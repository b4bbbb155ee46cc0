/**
 * A worker that serves several owners, in virtual time: whose job begins is decided by the scripts that decide it in the service, on a real
 * Redis, and whose rows go into a step by the engine's policy; only the device and the clock are simulated. A step takes a millisecond a row.
 */
import { batchPolicies, selectBatch, ServedTimes } from '@easel/pipeline'
import type { WaitingCall } from '@easel/pipeline'
import type { ShareBench } from '@easel/job-store/test/share-bench'

export interface ShareJob {
  owner: string
  /** In milliseconds from the start. */
  arrivesAt: number
  steps: number
  pictures: number
}

export interface ShareOptions {
  bench: ShareBench
  jobs: readonly ShareJob[]
  weights: Readonly<Record<string, number>>
  /** The factor by which the estimate of a job's cost is wrong. */
  misjudge?: (job: ShareJob) => number
  /** When to stop, in milliseconds. Default: when all jobs have ended. */
  untilMs?: number
}

export interface ShareResult {
  /** The device time of each owner in milliseconds, counted while all owners had jobs waiting. */
  contended: Map<string, number>
  /** The same, counted all the time. */
  served: Map<string, number>
  /** The longest time between two starts of an owner whose jobs waited meanwhile, in milliseconds. */
  longestWait: Map<string, number>
}

const places = 8
const mostRows = 16

interface Running extends WaitingCall {
  id: string
  job: ShareJob
  stepsLeft: number
  rows: number
  remainingMs: number
  stepMs: number
  servedMs: number
  tookMs: number
}

export async function simulateShare({ bench, jobs, weights, misjudge = () => 1, untilMs = Infinity }: ShareOptions): Promise<ShareResult> {
  const owners = Object.keys(weights)
  const zeros = (): Map<string, number> => new Map(owners.map((owner) => [owner, 0]))
  const result: ShareResult = { contended: zeros(), served: zeros(), longestWait: zeros() }
  const waiting = zeros()
  const startedAt = new Map<string, number>()
  const arrivals = jobs.toSorted((a, b) => a.arrivesAt - b.arrivesAt)
  const byId = new Map<string, ShareJob>()
  const times = new ServedTimes()
  let running: Running[] = []
  let arrived = 0
  let order = 0
  let nowMs = 0
  const began = Date.UTC(2026, 0, 1)
  const add = (map: Map<string, number>, owner: string, ms: number): unknown => map.set(owner, (map.get(owner) ?? 0) + ms)

  while (nowMs < untilMs && (arrived < arrivals.length || running.length > 0)) {
    // 1. The jobs that have arrived by now
    if (running.length === 0 && arrived < arrivals.length) nowMs = Math.max(nowMs, arrivals[arrived]?.arrivesAt ?? nowMs)
    bench.now = began + nowMs
    for (let job = arrivals[arrived]; job !== undefined && job.arrivesAt <= nowMs; job = arrivals[++arrived]) {
      const costMs = job.steps * job.pictures * 2 * misjudge(job)
      byId.set(await bench.submit(job.owner, { costMs, weight: weights[job.owner] ?? 1, createdAt: bench.now }), job)
      if ((waiting.get(job.owner) ?? 0) === 0) startedAt.set(job.owner, nowMs)
      add(waiting, job.owner, 1)
    }
    // 2. The jobs that may begin
    for (;;) {
      const counts = new Map([...Map.groupBy(running, ({ owner }) => owner)].map(([owner, own]) => [owner, own.length]))
      const taken = await bench.take({ running: counts, places })
      if (taken === undefined) break
      const { id, owner } = taken
      const job = byId.get(id) as ShareJob
      const rows = job.pictures * 2
      const weight = weights[owner] ?? 1
      running.push({
        id,
        job,
        owner,
        weight,
        rows,
        stepsLeft: job.steps,
        order: order++,
        shape: '',
        arrivedAtMs: nowMs,
        remainingMs: 0,
        stepMs: 0,
        servedMs: 0,
        tookMs: 0,
      })
      add(waiting, owner, -1)
      result.longestWait.set(owner, Math.max(result.longestWait.get(owner) ?? 0, nowMs - (startedAt.get(owner) ?? nowMs)))
      startedAt.set(owner, nowMs)
    }
    // 3. One step
    for (const call of running) {
      call.stepMs = call.rows
      call.remainingMs = call.stepsLeft * call.job.pictures * 2
      call.servedMs = times.of(call.owner)
    }
    const batch = selectBatch(running, batchPolicies.fair, nowMs, () => mostRows)
    if (batch[0] !== undefined) times.advance(batch[0].call.owner)
    const contended = owners.every((owner) => (waiting.get(owner) ?? 0) > 0)
    for (const { call, rows } of batch) {
      nowMs += rows
      times.add(call.owner, call.weight, rows)
      add(result.served, call.owner, rows)
      if (contended) add(result.contended, call.owner, rows)
      call.tookMs += rows
      call.rows -= rows
      if (call.rows > 0) continue
      call.rows = call.job.pictures * 2
      call.stepsLeft--
    }
    for (const call of running) if (call.stepsLeft === 0) await bench.finish(call.id, call.tookMs)
    running = running.filter(({ stepsLeft }) => stepsLeft > 0)
  }
  return result
}

/** The max-min fair shares for owners of weight 1: none can get more without taking it from one that has less. */
export function maxMinShares(demands: readonly number[], capacity: number): number[] {
  const shares = demands.map(() => 0)
  let open = demands.map((_, i) => i)
  let left = capacity
  while (open.length > 0 && left > 1e-9) {
    const part = Math.min(left / open.length, ...open.map((i) => (demands[i] as number) - (shares[i] as number)))
    for (const i of open) shares[i] = (shares[i] as number) + part
    left -= part * open.length
    open = open.filter((i) => (demands[i] as number) - (shares[i] as number) > 1e-9)
  }
  return shares
}

/** Jain's index, which is 1 when all are equal and 1/n when one has everything. */
export function jainIndex(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0)
  return sum ** 2 / (values.length * values.reduce((total, value) => total + value ** 2, 0))
}

/** Random numbers in [0, 1) that are the same for the same seed (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
