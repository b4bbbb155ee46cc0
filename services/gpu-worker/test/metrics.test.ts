import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
import type { WorkerService } from '../src/worker-service.ts'
import { endlessInput, openWorkerBench } from './worker-bench.ts'
import type { StartOptions, WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
let port: number
beforeEach(async () => {
  bench = await openWorkerBench()
  port = await findFreePort()
})
afterEach(async () => bench?.close())

const startWorker = async (options: StartOptions = {}): Promise<WorkerService> =>
  await bench.startWorker({ ...options, env: { METRICS_PORT: String(port), ...options.env } })
const scraped = (name: string) => expect.poll(async () => (await scrape()).get(name), { timeout: 60_000 })

async function scrape(): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

test('a worker counts its jobs by outcome, times their phases and every step with its rows, and reports what its engine says about itself', async () => {
  await startWorker()
  for (const seed of [1, 2]) await bench.untilEnded(await bench.submit({ num_inference_steps: 5, seed }))
  await bench.untilEnded(await bench.submit({ width: 65 }))
  const gone = await bench.submit(endlessInput)
  await bench.until(gone, (record) => record.status === 'running')
  await bench.store.requestCancel(gone)
  await bench.untilEnded(gone)
  await scraped('easel_prompt_cache_hits_total').toBeGreaterThan(0)
  await scraped('easel_jobs_total{status="canceled",code=""}').toBe(1)
  const metrics = await scrape()
  expect(metrics.get('easel_jobs_total{status="succeeded",code=""}')).toBe(2)
  expect(metrics.get('easel_jobs_total{status="failed",code="internal"}')).toBe(1)
  expect(metrics.get('easel_job_wait_seconds_count')).toBe(4)
  for (const phase of ['encode', 'decode', 'upload']) expect(metrics.get(`easel_${phase}_duration_seconds_count`)).toBe(2)
  const steps = metrics.get('easel_step_duration_seconds_count') ?? 0
  expect(steps).toBeGreaterThanOrEqual(10)
  expect(metrics.get('easel_batch_rows_count')).toBe(steps)
  // With and without the prompt.
  expect(metrics.get('easel_batch_rows_sum')).toBeGreaterThanOrEqual(20)
  expect(metrics.get('easel_engine_memory_bytes')).toBeGreaterThan(50e6)
  expect([metrics.get('easel_engine_restarts_total'), metrics.get('easel_engine_recycles_total')]).toEqual([0, 0])
  const named = ['easel_batching_gain', 'easel_job_stalls_total', 'easel_job_lock_losses_total', 'nodejs_eventloop_lag_p99_seconds']
  expect(named.filter((name) => !metrics.has(name))).toEqual([])
})

test('a worker answers while it loads its model, but is only ready once it has one, and not while a new engine process loads it again', async () => {
  const statuses = async (): Promise<number[]> =>
    await Promise.all(['/livez', '/readyz', '/metrics'].map(async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).status))
  const open = join(bench.dir, 'open')
  const engineEntry = fileURLToPath(new URL('gated-engine.ts', import.meta.url))
  const starting = startWorker({ engineEntry, env: { CACHE_DIR: bench.dir } })
  await expect.poll(() => statuses().catch(() => []), { timeout: 60_000 }).toEqual([200, 503, 200])
  expect((await scrape()).get('process_start_time_seconds')).toBeGreaterThan(0)

  await writeFile(open, '')
  const worker = await starting
  expect(worker.isReady()).toBe(true)
  expect(await statuses()).toEqual([200, 200, 200])

  await rm(open)
  const first = worker.enginePid as number
  process.kill(first, 'SIGKILL')
  await expect.poll(() => worker.enginePid, { timeout: 60_000 }).toSatisfy((pid) => pid !== undefined && pid !== first)
  expect(await statuses()).toEqual([200, 503, 200])
  await writeFile(open, '')
  await expect.poll(statuses, { timeout: 60_000 }).toEqual([200, 200, 200])
})

test('a worker that cannot load its model leaves nothing behind on its port', async () => {
  await expect(startWorker({ env: { MODEL: 'no-such-model' } })).rejects.toMatchObject({ code: 'load_failed' })
  await expect(scrape()).rejects.toThrow('fetch failed')
})

test('a worker counts engines that died and engines that were replaced because of their memory', async () => {
  const engineEntry = fileURLToPath(new URL('memory-engine.ts', import.meta.url))
  const worker = await startWorker({ engineEntry, env: { ENGINE_MEMORY_LIMIT: '500' } })
  await bench.untilEnded(await bench.submit({ prompt: 'a leak' }))
  await scraped('easel_engine_recycles_total').toBe(1)
  await bench.untilEnded(await bench.submit())
  process.kill(worker.enginePid as number, 'SIGKILL')
  await scraped('easel_engine_restarts_total').toBe(1)
  expect((await scrape()).get('easel_engine_recycles_total')).toBe(1)
})

test('a worker counts a lost lock once, and the job that is put back because of it', async () => {
  await startWorker({ env: { JOB_LOCK_DURATION: '2' } })
  const id = await bench.submit(endlessInput)
  await bench.until(id, ({ status }) => status === 'running')
  await bench.redis.del(`{test}:generate-tiny-scenes:${id}:lock`)
  await scraped('easel_job_stalls_total').toBe(1)
  expect((await scrape()).get('easel_job_lock_losses_total')).toBe(1)
  await bench.store.requestCancel(id)
})
