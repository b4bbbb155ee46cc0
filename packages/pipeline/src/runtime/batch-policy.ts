/**
 * Which rows go into the next step: a pure function of the rows that wait.
 *
 * A policy puts the waiting calls in order. The first one decides the shape of the step; rows of the same shape follow in that order until
 * the step is full, and the last call may be cut: the rest of its rows wait for the next step.
 * Invariant: nothing here keeps state, looks at a clock or knows a model, so the simulator in bench/ runs the same code in virtual time.
 */

/** Rows of one request that wait for one step. */
export interface WaitingCall {
  /** Rows that still have to run for this step, from 1. */
  readonly rows: number
  /** Calls of equal shape may share a step: latent sides, text length. */
  readonly shape: string
  /** Order in which the calls came, unique; breaks ties between requests that came together. */
  readonly order: number
  /** When the request came to the engine, milliseconds on the clock of `nowMs`. */
  readonly arrivedAtMs: number
  /** Device time until the request has done all its steps, milliseconds, estimated. */
  readonly remainingMs: number
  /** Device time of the rows that wait for this step, milliseconds, estimated. */
  readonly stepMs: number
  /** Whose request it is. */
  readonly owner: string
  /** Share of the owner when several have rows waiting, above 0. */
  readonly weight: number
  /** Device time that the owner has had, over its weight, milliseconds: the same for all its calls. */
  readonly servedMs: number
}

/** The waiting calls, the one to serve first in front. */
export type BatchPolicy = <Call extends WaitingCall>(waiting: readonly Call[], nowMs: number) => Call[]

/**
 * What a millisecond of age is worth in milliseconds of remaining work. A request of remaining work R goes before every newcomer once it is
 * older than R / 0.1: nobody starves, and until then short ones pass.
 */
export const AGEING = 0.1

/** Shortest remaining work first, less what age has earned: the least mean latency a machine can give, and an end to waiting for all. */
const srpt: BatchPolicy = (waiting, nowMs) => {
  const rank = (call: WaitingCall) => call.remainingMs - AGEING * (nowMs - call.arrivedAtMs)
  return [...waiting].sort((a, b) => rank(a) - rank(b) || byArrival(a, b))
}

/** First come, first served: the request that came first, at each of its steps. */
const fcfs: BatchPolicy = (waiting) => [...waiting].sort(byArrival)

function byArrival(a: WaitingCall, b: WaitingCall): number {
  return a.arrivedAtMs - b.arrivedAtMs || a.order - b.order
}

/**
 * Fair shares: the owner that has had the least for its weight goes first, as if each call it sends had run already; within an owner shortest
 * remaining work with ageing. With one owner it is `srpt`.
 */
const fair: BatchPolicy = (waiting, nowMs) => {
  const lines = [...Map.groupBy(srpt(waiting, nowMs), (call) => call.owner).values()].map((calls) => ({
    calls,
    next: 0,
    servedMs: (calls[0] as (typeof calls)[number]).servedMs,
  }))
  return waiting.map(() => {
    const left = lines.filter(({ calls, next }) => next < calls.length)
    const first = left.reduce((best, line) => (line.servedMs < best.servedMs ? line : best))
    const call = first.calls[first.next++] as (typeof first.calls)[number]
    first.servedMs += call.stepMs / call.weight
    return call
  })
}

export const batchPolicies = { fair, srpt, fcfs } as const satisfies Record<string, BatchPolicy>
export type BatchPolicyName = keyof typeof batchPolicies

export interface BatchShare<Call extends WaitingCall> {
  readonly call: Call
  /** How many of its waiting rows go along, from 1. */
  readonly rows: number
}

/** `rowsFor`: the most rows a step of this call's shape should have, given how many wait. Empty when nothing waits. */
export function selectBatch<Call extends WaitingCall>(
  waiting: readonly Call[],
  policy: BatchPolicy,
  nowMs: number,
  rowsFor: (first: Call, waitingRows: number) => number,
): BatchShare<Call>[] {
  const ordered = policy(waiting, nowMs)
  const [first] = ordered
  if (first === undefined) return []
  const fitting = ordered.filter((call) => call.shape === first.shape)
  let room = rowsFor(
    first,
    fitting.reduce((sum, call) => sum + call.rows, 0),
  )
  const batch: BatchShare<Call>[] = []
  for (const call of fitting) {
    if (room <= 0) break
    const rows = Math.min(room, call.rows)
    batch.push({ call, rows })
    room -= rows
  }
  return batch
}
