import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test, vi } from 'vitest'
import { createModelRegistry, createRedis } from '@easel/job-store'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import { tinyScenes } from './start-api.ts'
import { killProcesses, startProcess, untilStatus } from './start-process.ts'

afterEach(killProcesses)

const submit = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"prompt": "a"}' }

test('starts while Redis is down, takes jobs once it is there, logs in JSON, and ends in order', async () => {
  const port = await findFreePort()
  const api = await startProcess({ REDIS_URL: `redis://127.0.0.1:${port}`, METRICS_LOG_INTERVAL: '1' })
  await untilStatus(`${api.url}/livez`, 200)
  await untilStatus(`${api.url}/readyz`, 503)
  await untilStatus(`${api.url}/v1/jobs`, 503, submit)

  const redis = await startRedis({ port })
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  await createModelRegistry({ redis: connection, prefix: '{easel}' }).announce(tinyScenes)
  connection.disconnect()
  await untilStatus(`${api.url}/readyz`, 200)
  await untilStatus(`${api.url}/v1/jobs`, 202, submit)
  await vi.waitFor(() => expect(api.output()).toContain('"totalRequests":1,"activeInferences":0,"queueDepth":1'), { timeout: 5000 })

  api.child.kill('SIGTERM')
  expect(await api.ended).toBe(0)
  await redis.stop()
  const lines = api.output().trim().split('\n')
  const messages = lines.map((line) => (JSON.parse(line) as { msg: string }).msg)
  expect(messages).toEqual(expect.arrayContaining(['api listens', 'job queued', 'totals', 'api stopped']))
})

test('the first signal lets a request under way end, the second ends the process at once', async () => {
  const redis = await startRedis()
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  await createModelRegistry({ redis: connection, prefix: '{easel}' }).announce(tinyScenes)
  connection.disconnect()
  const waits = { REDIS_URL: redis.url, INFERENCE_WAIT: '2' }

  const patient = await startProcess(waits)
  await untilStatus(`${patient.url}/readyz`, 200)
  const response = fetch(`${patient.url}/api/diffusers/inference`, submit)
  await vi.waitFor(() => expect(patient.output()).toContain('job queued'), { timeout: 20_000 })
  patient.child.kill('SIGTERM')
  expect((await response).status).toBe(504)
  expect(await patient.ended).toBe(0)

  const hurried = await startProcess({ ...waits, INFERENCE_WAIT: '600' })
  await untilStatus(`${hurried.url}/readyz`, 200)
  const cut = fetch(`${hurried.url}/api/diffusers/inference`, submit).then(
    () => 'answered',
    () => 'cut',
  )
  await vi.waitFor(() => expect(hurried.output()).toContain('job queued'), { timeout: 20_000 })
  hurried.child.kill('SIGINT')
  await vi.waitFor(() => expect(hurried.output()).toContain('api stops'), { timeout: 20_000 })
  await sleep(50)
  hurried.child.kill('SIGINT')
  expect([await hurried.ended, await cut]).toEqual([1, 'cut'])
  await redis.stop()
})

test('a wrong environment is told by name, and the process ends with 1', async () => {
  const api = await startProcess({ RESULT_TTL: 'long', REDIS_URL: 'nowhere' })
  expect(await api.ended).toBe(1)
  expect(api.output()).toContain('RESULT_TTL')
  expect(api.output()).toContain('REDIS_URL')
})

test('a port that is taken ends the process with 1 and says so', async () => {
  const redis = await startRedis()
  const api = await startProcess({ REDIS_URL: redis.url, PORT: String(redis.port) })
  expect(await api.ended).toBe(1)
  expect(api.output()).toContain('EADDRINUSE')
  await redis.stop()
})
