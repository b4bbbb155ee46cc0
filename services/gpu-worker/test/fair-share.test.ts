/** The fair share with a real Redis and a real engine: an owner who fills all places does not make others wait. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { JobInput } from '@easel/contract'
import { toCostMs } from '@easel/job-store'
import { endlessInput, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeAll(async () => {
  bench = await openWorkerBench()
})
afterAll(() => bench.close())

async function submitAs(owner: string, input: Partial<JobInput> = {}): Promise<string> {
  const sized = { width: 64, height: 64, num_inference_steps: 4, guidance_scale: 4, num_images_per_prompt: 1, ...input }
  return await bench.submit(input, { owner, weight: 1, costMs: toCostMs({ model: 'tiny-scenes', ...sized }) })
}
const running = (owner: string): Promise<number> => bench.store.count(owner, 'running')

test('the job of an owner begins immediately beside those of another who fills every place and has a thousand more jobs waiting', async () => {
  const many: string[] = []
  for (let i = 0; i < 1000; i++) many.push(await submitAs('greedy', { ...endlessInput, num_images_per_prompt: 1 }))
  const worker = await bench.startWorker({ env: { WORKER_CONCURRENCY: '2' } })
  await expect.poll(() => running('greedy')).toBe(2)
  const first = await bench.until(many[0] ?? '', (record) => record.progress.step > 0)

  const id = await submitAs('modest', { num_inference_steps: 30 })
  const begun = await bench.until(id, (record) => record.progress.step > 0)
  expect(await running('greedy')).toBe(2)
  const beside = await bench.until(many[0] ?? '', (record) => record.progress.step > first.progress.step)
  const ended = await bench.untilEnded(id)
  expect([begun.status, ended.status]).toEqual(['running', 'succeeded'])
  // All of it happened while the greedy owner's first jobs ran: no place had to become free.
  const after = await bench.store.get(many[0] ?? '')
  expect(after?.status).toBe('running')
  expect(after?.progress.step).toBeGreaterThanOrEqual(beside.progress.step)

  // The place that was open to a newcomer is not open to the greedy owner.
  expect(await running('greedy')).toBe(2)
  // The time of its steps was measured and its estimate corrected.
  expect(Number(await bench.redis.hget(bench.store.keys.usage('modest'), 'kept_gpu_ms'))).toBeGreaterThan(0)
  for (const other of many) await bench.store.requestCancel(other)
  await expect.poll(() => running('greedy')).toBe(0)
  await worker.close(0)
})

test('jobs of one owner beyond MAX_RUNNING_JOBS_PER_KEY wait and are not refused', async () => {
  const limited = { WORKER_CONCURRENCY: '4', MAX_RUNNING_JOBS_PER_KEY: '1' }
  await bench.startWorker({ env: limited })
  const [first, second] = [await submitAs('limited', endlessInput), await submitAs('limited', { num_inference_steps: 2 })]
  await bench.until(first, (record) => record.status === 'running')
  const other = await submitAs('other', { num_inference_steps: 2 })
  expect((await bench.untilEnded(other)).status).toBe('succeeded')
  expect((await bench.store.get(second))?.status).toBe('queued')
  await bench.store.requestCancel(first)
  expect((await bench.untilEnded(second)).status).toBe('succeeded')
})
