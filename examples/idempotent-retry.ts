/** Repeats a submit whose answer was lost, without making a second job: both requests carry the same Idempotency-Key. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, Problem } from '@easel/contract'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'

// Made once per order, before the first attempt, and stored with it, so that a restarted client uses it too.
const idempotencyKey = randomUUID()

async function submit(attempts: number): Promise<{ job: Job; replayed: boolean }> {
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetch(`${url}/v1/jobs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
        body: JSON.stringify({ prompt: 'a black rocket above a white ball', seed: 5 }),
        signal: AbortSignal.timeout(10_000),
      })
      if (response.ok) return { job: (await response.json()) as Job, replayed: response.headers.has('idempotency-replayed') }
      const problem = (await response.json()) as Problem
      if (!problem.retryable || attempt === attempts) throw new Error(problem.detail ?? problem.title, { cause: problem })
      await sleep(Number(response.headers.get('retry-after') ?? 1) * 1000)
    } catch (error) {
      // A request without an answer is tried again; one that the server has refused is not.
      if (!(error instanceof TypeError || (error as Error).name === 'TimeoutError') || attempt === attempts) throw error
      await sleep(1000)
    }
  }
}

const first = await submit(5)
console.log(`first:  ${first.job.id}, replayed: ${first.replayed}`)
// As if the answer had never arrived.
const second = await submit(5)
console.log(`second: ${second.job.id}, replayed: ${second.replayed}`)
