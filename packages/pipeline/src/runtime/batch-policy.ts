/**
 * Which rows go into the next step: a pure function of the rows that wait.
 *
 * A policy puts the waiting calls in order. The first one decides the shape of the step; rows of the same shape follow in that order until
 * the step is full, and the last call may be cut: the rest of its rows wait for the next step.
 * Invariant: nothing here keeps state, looks at a clock or knows a model, so the simulator in bench/ runs the same code in virtual time.
 */

/** Rows of one request that wait for one step. */
export interface WaitingCall {
  /** Number of rows that still have to run for this step, from 1. */
  readonly rows: number
  /** Calls of equal shape may share a step: latent sides, text length. */
  readonly shape: string
  /** Position in the order of arrival, unique; it breaks ties between requests that arrived together. */
  readonly order: number
  /** When the request reached the engine, in milliseconds on the clock of `nowMs`. */
  readonly arrivedAtMs: number
  /** Estimated device time until the request has finished all its steps, in milliseconds. */
  readonly remainingMs: number
  /** Estimated device time of the rows that wait for this step, in milliseconds. */
  readonly stepMs: number
  /** The owner of the request. */
  readonly owner: string
  /** Relative share of the owner when several have rows waiting, above 0. */
  readonly weight: number
  /** Device time that the owner has had, divided by its weight, in milliseconds; the same for all its calls. */
  readonly servedMs: number
}

/** Sorts the waiting calls, the one to serve first at the front. */
export type BatchPolicy = <Call extends WaitingCall>(waiting: readonly Call[], nowMs: number) => Call[]

/**
 * What a millisecond of age is worth in milliseconds of remaining work. A request with remaining work R goes before every newcomer once it
 * is older than R / 0.1. So no request starves, and until then short requests go first.
 */
export const ageing = 0.1

/** Shortest remaining work first, less a credit for age: close to the least possible mean latency, and no request waits forever. */
const srpt: BatchPolicy = (waiting, nowMs) => {
  const rank = (call: WaitingCall) => call.remainingMs - ageing * (nowMs - call.arrivedAtMs)
  return [...waiting].sort((a, b) => rank(a) - rank(b) || byArrival(a, b))
}

/** First come, first served: the request that came first, at each of its steps. */
const fcfs: BatchPolicy = (waiting) => [...waiting].sort(byArrival)

function byArrival(a: WaitingCall, b: WaitingCall): number {
  return a.arrivedAtMs - b.arrivedAtMs || a.order - b.order
}

/**
 * Fair shares: the owner that has had the least device time for its weight goes first, counting each call placed ahead as if it had already
 * run. Within an owner, shortest remaining work with ageing. With a single owner this is `srpt`.
 */
const fair: BatchPolicy = (waiting, nowMs) => {
  const calls = srpt(waiting, nowMs)
  const owners = [...new Set(calls.map((call) => call.owner))]
  const lines = owners.map((owner) => {
    const own = calls.filter((call) => call.owner === owner)
    return { calls: own, next: 0, servedMs: (own[0] as (typeof own)[number]).servedMs }
  })
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
  /** How many of its waiting rows are in the step, from 1. */
  readonly rows: number
}

/** `rowsFor`: the most rows that a step of this call's shape should have, given how many wait. Returns an empty list when nothing waits. */
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
