import { afterAll, beforeAll, expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
import { openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
let port: number
beforeAll(async () => {
  bench = await openWorkerBench()
  port = await findFreePort()
  await bench.startWorker({ env: { METRICS_PORT: String(port) } })
})
afterAll(async () => bench?.close())

async function scrape(): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

test('a worker tells its jobs by outcome, their phases, every step with its rows, and what its engine says of itself', async () => {
  for (const seed of [1, 2]) await bench.untilEnded(await bench.submit({ num_inference_steps: 5, seed }))
  await bench.untilEnded(await bench.submit({ width: 65 }))
  const gone = await bench.submit({ num_inference_steps: 200 })
  await bench.until(gone, (record) => record.status === 'running')
  await bench.store.requestCancel(gone)
  await bench.untilEnded(gone)
  await expect.poll(async () => (await scrape()).get('prompt_cache_hits_total'), { timeout: 20_000 }).toBeGreaterThan(0)
  const metrics = await scrape()
  expect(metrics.get('jobs_total{status="succeeded",code=""}')).toBe(2)
  expect(metrics.get('jobs_total{status="failed",code="internal"}')).toBe(1)
  expect(metrics.get('jobs_total{status="canceled",code=""}')).toBe(1)
  expect(metrics.get('job_wait_seconds_count')).toBe(4)
  for (const phase of ['encode', 'decode', 'upload']) expect(metrics.get(`${phase}_duration_seconds_count`)).toBe(2)
  const steps = metrics.get('step_duration_seconds_count') ?? 0
  expect(steps).toBeGreaterThanOrEqual(10)
  expect(metrics.get('batch_rows_count')).toBe(steps)
  // With and without the prompt.
  expect(metrics.get('batch_rows_sum')).toBeGreaterThanOrEqual(20)
  expect(metrics.get('engine_memory_bytes')).toBeGreaterThan(50e6)
  expect([metrics.get('engine_restarts_total'), metrics.get('engine_recycles_total')]).toEqual([0, 0])
  const named = ['batching_gain', 'job_stalls_total', 'job_lock_losses_total', 'nodejs_eventloop_lag_p99_seconds']
  expect(named.filter((name) => !metrics.has(name))).toEqual([])
})
