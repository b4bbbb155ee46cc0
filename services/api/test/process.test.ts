import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createModelRegistry, createRedis } from '@easel/job-store'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import { tinyScenes } from './start-api.ts'
import { killProcesses, spawnWorkerProcess, startProcess, untilStatus } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

afterEach(killProcesses)

const submit = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"prompt": "a"}' }

test('the api starts while Redis is down, accepts jobs once it is there, logs in JSON, and ends cleanly', async () => {
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
  await vi.waitFor(() => expect(api.output()).toContain('"totalRequests":1,"activeInferences":0,"queueDepth":1'), { timeout: 60_000 })

  api.child.kill('SIGTERM')
  expect(await api.ended).toBe(0)
  await redis.stop()
  const lines = api.output().trim().split('\n')
  const messages = lines.map((line) => (JSON.parse(line) as { msg: string }).msg)
  expect(messages).toEqual(expect.arrayContaining(['api listens', 'job queued', 'totals', 'api stopped']))
})

test('the first signal lets a request under way end; the second ends the process at once', async () => {
  const redis = await startRedis()
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  await createModelRegistry({ redis: connection, prefix: '{easel}' }).announce(tinyScenes)
  connection.disconnect()
  const waits = { REDIS_URL: redis.url, INFERENCE_WAIT: '2' }

  const patient = await startProcess(waits)
  await untilStatus(`${patient.url}/readyz`, 200)
  const response = fetch(`${patient.url}/api/diffusers/inference`, submit)
  await vi.waitFor(() => expect(patient.output()).toContain('job queued'), { timeout: 60_000 })
  patient.child.kill('SIGTERM')
  expect((await response).status).toBe(504)
  expect(await patient.ended).toBe(0)

  const hurried = await startProcess({ ...waits, INFERENCE_WAIT: '600' })
  await untilStatus(`${hurried.url}/readyz`, 200)
  const cut = fetch(`${hurried.url}/api/diffusers/inference`, submit).then(
    () => 'answered',
    () => 'cut',
  )
  await vi.waitFor(() => expect(hurried.output()).toContain('job queued'), { timeout: 60_000 })
  hurried.child.kill('SIGINT')
  await vi.waitFor(() => expect(hurried.output()).toContain('api stops'), { timeout: 60_000 })
  hurried.child.kill('SIGINT')
  expect([await hurried.ended, await cut]).toEqual([1, 'cut'])
  await redis.stop()
})

test('a file of keys is read at start and again at SIGHUP; a wrong one leaves the keys as they are', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'easel-keys-'))
  const file = join(dir, 'keys')
  await writeFile(file, 'alice:first-secret\n')
  const redis = await startRedis()
  const api = await startProcess({ REDIS_URL: redis.url, API_KEYS_FILE: file })
  const listed = `${api.url}/v1/jobs`
  const withKey = (key: string): RequestInit => ({ headers: { 'X-API-Key': key } })
  await untilStatus(listed, 200, withKey('first-secret'))
  await untilStatus(listed, 401, withKey('second-secret'))

  await writeFile(file, 'alice:second-secret\n')
  api.child.kill('SIGHUP')
  await untilStatus(listed, 200, withKey('second-secret'))
  await untilStatus(listed, 401, withKey('first-secret'))

  for (const wrong of ['', '# none\n', 'public:first-secret\n']) {
    await writeFile(file, wrong)
    const lines = api.output().split('API keys stay as they are').length
    api.child.kill('SIGHUP')
    await vi.waitFor(() => expect(api.output().split('API keys stay as they are').length).toBe(lines + 1), { timeout: 60_000 })
    await untilStatus(listed, 200, withKey('second-secret'))
    await untilStatus(listed, 401)
  }
  expect(api.output()).not.toContain('second-secret')

  const refused = await startProcess({ REDIS_URL: redis.url, API_KEYS_FILE: file })
  expect(await refused.ended).toBe(1)
  expect(refused.output()).toContain('API_KEYS_FILE: Expected a name other than')
  await redis.stop()
  await rm(dir, { recursive: true })
})

describe('a start that fails says in one sentence which variable is wrong', () => {
  const nowhere = { REDIS_URL: 'redis://127.0.0.1:9' }
  /** Waits for the end and returns all output. */
  const said = async ({ ended, output }: ServiceProcess): Promise<string[]> => {
    expect(await ended).toBe(1)
    return output().trim().split('\n')
  }

  test('and names every one when several are', async () => {
    const lines = await said(await startProcess({ RESULT_TTL: 'long', REDIS_URL: 'nowhere' }))
    expect(lines).toEqual([
      'The api cannot start. These variables are wrong:',
      expect.stringMatching(/^REDIS_URL: Expected a redis/),
      expect.stringMatching(/^RESULT_TTL: /),
    ])
  })

  test('when HOST is no address, as conda sets it', async () => {
    const host = 'x86_64-conda-linux-gnu'
    expect(await said(await startProcess({ ...nowhere, HOST: host }))).toEqual([
      'The api cannot start. These variables are wrong:',
      `HOST: Expected an address of this machine, such as 127.0.0.1 or 0.0.0.0, got ${host}`,
    ])
  })

  test('when a port is taken, in both services', async () => {
    const taken = createServer().listen(0)
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    try {
      for (const [started, name, variable] of [
        [await startProcess({ ...nowhere, PORT: String(port) }), 'api', 'PORT'],
        [spawnWorkerProcess({ ...nowhere, METRICS_PORT: String(port) }), 'gpu-worker', 'METRICS_PORT'],
      ] as const)
        expect(await said(started)).toEqual([
          `The ${name} cannot start. These variables are wrong:`,
          `${variable}: Expected a free port, got ${port}, which another process listens on`,
        ])
    } finally {
      taken.close()
    }
  })
})
