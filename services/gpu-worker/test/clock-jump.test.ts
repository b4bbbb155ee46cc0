/** What a worker does when its clock, or that of Redis, is wrong or jumps. */
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
  ['behind', -hourMs],
])('a worker whose machine is an hour %s counts as alive, ends no job early and reports no negative times', async (_, skewMs) => {
  const { id: worker } = await bench.startWorker({ localNow: () => Date.now() + skewMs })
  expect((await bench.registry.workers()).map(({ id }) => id)).toEqual([worker])
  const limits = { expiresAt: Date.now() + 60_000, timeoutSeconds: 600 }
  const [first, second] = [await bench.submit(longInput, limits), await bench.submit({}, limits)]
  for (const id of [first, second]) {
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
    for (const at of [record.startedAt, record.completedAt]) expect(Math.abs((at ?? 0) - Date.now())).toBeLessThan(60_000)
    for (const ms of Object.values(record.timings ?? {})) expect(ms).toBeGreaterThanOrEqual(0)
  }
})

test.each([
  ['ahead', hourMs],
  ['back', -hourMs],
])('a clock of Redis that jumps %s by an hour ends no running job early and leads to no negative times', async (_, jumpMs) => {
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
