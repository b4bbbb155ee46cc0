/** What a worker does when its clock is wrong or jumps. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { longInput, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

const hourMs = 3_600_000

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

test.each([
  ['ahead', hourMs],
  ['back', -hourMs],
])('a clock that jumps %s by an hour ends no running job early and gives no negative times', async (_, jumpMs) => {
  let offsetMs = 0
  await bench.startWorker({ now: () => Date.now() + offsetMs })
  const id = await bench.submit(longInput, { timeoutSeconds: 600 })
  await bench.until(id, ({ progress }) => progress.step >= 3)
  offsetMs = jumpMs
  const record = await bench.untilEnded(id)
  expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
  for (const ms of Object.values(record.timings ?? {})) expect(ms).toBeGreaterThanOrEqual(0)
  const next = await bench.untilEnded(await bench.submit())
  expect(next.status).toBe('succeeded')
  for (const ms of Object.values(next.timings ?? {})) expect(ms).toBeGreaterThanOrEqual(0)
})

test('expires_in is judged by the worker’s clock: one that is ahead gives jobs up early, and says expired', async () => {
  await bench.startWorker({ now: () => Date.now() + hourMs })
  const early = await bench.submit({}, { expiresAt: Date.now() + 60_000 })
  expect(await bench.untilEnded(early)).toMatchObject({ status: 'failed', runs: 0, error: { code: 'expired' } })
  const patient = await bench.submit({}, { expiresAt: Date.now() + 2 * hourMs })
  expect(await bench.untilEnded(patient)).toMatchObject({ status: 'succeeded' })
})
