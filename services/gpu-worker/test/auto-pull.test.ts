/** Workers whose model is not on disk yet, and a hub that has it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
import { type HubServer, readRepository, startHubServer } from '@easel/model-store/test/hub-server'
import { captureLog } from './log-capture.ts'
import { modelsDir, openWorkerBench, sha, type WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
let hub: HubServer
let env: Record<string, string>
beforeEach(async () => {
  const files = await readRepository(join(modelsDir, 'tiny-scenes'))
  hub = await startHubServer({ 'painter/tiny-scenes': { files }, 'painter/gated': { files, gatedFor: 'hf_right' } })
  bench = await openWorkerBench()
  env = { MODEL: 'painter/tiny-scenes', MODELS_DIR: join(bench.dir, 'models'), AUTO_PULL: 'true', HF_ENDPOINT: hub.url }
})
afterEach(async () => {
  await bench?.close()
  await hub?.close()
})

test('a worker that pulls reports how far it is, another worker waits for it, and both draw', async () => {
  const pace = { bytesPerSecond: 100_000 }
  hub.fault = (path) => (path.startsWith('/blobs/') ? pace : undefined)
  const port = await findFreePort()
  const log = captureLog()
  const ask = async (): Promise<{ ready?: boolean; pulling?: { done_bytes: number; total_bytes: number } }> => {
    const response = await fetch(`http://127.0.0.2:${port}/readyz`).catch(() => undefined)
    return (await response?.json()) ?? {}
  }
  const first = bench.startWorker({ env: { ...env, METRICS_HOST: '127.0.0.2', METRICS_PORT: String(port) }, logger: log.logger })
  await expect.poll(async () => (await ask()).pulling?.done_bytes ?? 0, { timeout: 60_000, interval: 20 }).toBeGreaterThan(0)
  const second = bench.startWorker({ env, logger: log.logger })
  await log.until('another worker is pulling the model; waiting for it')
  pace.bytesPerSecond = Infinity
  const workers = await Promise.all([first, second])
  expect(workers.every((worker) => worker.isReady())).toBe(true)
  expect(await ask()).toEqual({ ready: true })
  await expect(fetch(`http://127.0.0.1:${port}/readyz`)).rejects.toThrow('fetch failed')
  expect(log.saying('pulling the model').length).toBeGreaterThan(0)
  expect(log.saying('another worker is pulling the model; waiting for it')).toHaveLength(1)

  const files = await readRepository(join(env['MODELS_DIR'] ?? '', 'painter/tiny-scenes'))
  const bytes = Object.values(files).reduce((sum, { length }) => sum + length, 0)
  const sent = hub.requests.filter(({ path }) => path.startsWith('/blobs/')).reduce((sum, { sentBytes }) => sum + sentBytes, 0)
  expect(sent).toBeLessThan(bytes * 1.2)
  const record = await bench.untilEnded(await bench.submit())
  expect(record.status).toBe('succeeded')
  expect(sha(record)).toBeDefined()
})

test('without AUTO_PULL a worker names the command, and with it what a gated repository demands', async () => {
  await expect(bench.startWorker({ env: { ...env, AUTO_PULL: 'false' } })).rejects.toThrow(/"npx easel pull painter\/tiny-scenes"/)
  await expect(bench.startWorker({ env: { ...env, MODEL: 'painter/gated' } })).rejects.toThrow(
    /painter\/gated is gated: accept the terms at/,
  )
  const worker = await bench.startWorker({ env: { ...env, MODEL: 'painter/gated', HF_TOKEN: 'hf_right' } })
  expect(worker.isReady()).toBe(true)
  expect(await readFile(join(env['MODELS_DIR'] ?? '', 'painter/gated/.easel.json'), 'utf8')).not.toContain('hf_right')
})
