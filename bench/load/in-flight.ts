/**
 * A closed loop on the engine: a fixed number of requests is always in flight, and each is followed immediately by the next.
 *
 * A slot is counted from the end of one step to the end of another, so that no part of a step is cut off. Requests end as latents unless
 * pictures are asked for: then only whole requests are counted.
 */
import { RequestScopedPipeline } from '@easel/pipeline'
import type { GenerateParams, StableDiffusion3Pipeline, StepRecord } from '@easel/pipeline'

/** Several prompts, which are all cached after their first use. */
const prompts = 20

/** One request of the load. `n` is its number. */
export function toRequest(n: number, params: Partial<GenerateParams> = {}): GenerateParams {
  return { prompt: `scene ${n % prompts}: a red boat on the sea`, seed: n, numInferenceSteps: 20, outputType: 'latent', ...params }
}

export interface SlotResult {
  readonly ms: number
  /** The number of rows that were run in the slot. */
  readonly rows: number
  /** The number of rows in each step, in order. */
  readonly steps: readonly number[]
  /** The number of requests that ended in the slot. */
  readonly requests: number
}

/** Runs `requests` requests, at most `inFlight` at a time, and measures from the first call to the last end. */
export async function runRequests(
  pipeline: StableDiffusion3Pipeline,
  inFlight: number,
  requests: number,
  params: Partial<GenerateParams> = {},
): Promise<SlotResult> {
  const scoped = new RequestScopedPipeline(pipeline)
  const steps: number[] = []
  let begun = 0
  const client = async (): Promise<void> => {
    while (begun < requests) await scoped.generate(toRequest(begun++, params))
  }
  const stop = onStep(pipeline, ({ rows }) => steps.push(rows))
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: inFlight }, client))
  const ms = performance.now() - startedAt
  stop()
  return { ms, steps, rows: steps.reduce((sum, rows) => sum + rows, 0), requests }
}

/** Keeps `inFlight` requests going and measures for `measureMs`; the first `settleSteps` steps do not count. */
export async function runSteadily(
  pipeline: StableDiffusion3Pipeline,
  inFlight: number,
  { measureMs, settleSteps = 3 }: { measureMs: number; settleSteps?: number },
  params: Partial<GenerateParams> = {},
): Promise<SlotResult> {
  const scoped = new RequestScopedPipeline(pipeline)
  const ending = new AbortController()
  const steps: number[] = []
  let begun = 0
  let beganAt = 0
  let endedAt = 0
  let seen = 0
  const client = async (): Promise<void> => {
    while (!ending.signal.aborted) await scoped.generate({ ...toRequest(begun++, params), signal: ending.signal })
  }
  const stop = onStep(pipeline, ({ rows }) => {
    if (ending.signal.aborted) return
    if (seen++ < settleSteps) {
      beganAt = performance.now()
      return
    }
    steps.push(rows)
    endedAt = performance.now()
    if (endedAt - beganAt >= measureMs) ending.abort()
  })
  const clients = await Promise.allSettled(Array.from({ length: inFlight }, client))
  stop()
  const failed = clients.find((client) => client.status === 'rejected' && client.reason !== ending.signal.reason)
  if (failed?.status === 'rejected') throw failed.reason
  return { ms: endedAt - beganAt, steps, rows: steps.reduce((sum, rows) => sum + rows, 0), requests: begun }
}

/** Rows per second. */
export function rowRate({ rows, ms }: SlotResult): number {
  return (rows / ms) * 1000
}

/** Calls `listener` after every step, in addition to existing listeners, until the returned function is called. */
function onStep({ runtime: { batcher } }: StableDiffusion3Pipeline, listener: (step: StepRecord) => void): () => void {
  const before = batcher.onStep
  batcher.onStep = (step) => {
    before?.(step)
    listener(step)
  }
  return () => {
    batcher.onStep = before
  }
}
