/** What both services, as processes, log and do when Redis goes away: one line then, one when it is back, and they end when they are told to. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { killProcesses, startProcess, startWorkerProcess, untilStatus } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

const grace = 3
/** Long enough for every connection to fail several times. */
const outageMs = 4000
let redis: RedisServer
let dir: string
let services: ServiceProcess[]
beforeEach(async () => {
  redis = await startRedis()
  dir = await mkdtemp(join(tmpdir(), 'easel-outage-'))
  const env = { REDIS_URL: redis.url, STORAGE: 'local', STORAGE_DIR: dir, SHUTDOWN_GRACE: String(grace), METRICS_LOG_INTERVAL: '1' }
  const models = { MODELS_DIR: fileURLToPath(new URL('../../../models', import.meta.url)), DEVICE: 'cpu' }
  const worker = await startWorkerProcess({ ...env, ...models })
  const api = await startProcess(env)
  await untilStatus(`${api.url}/readyz`, 200)
  services = [api, worker]
})
afterEach(async () => {
  killProcesses()
  await redis.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Lines that may come at any time: totals, and where it is not kept yet the model's hash, which is worked out while the worker is ready. */
const unrelated = new Set(['totals', "the model's hash is known"])

const saidSince = ({ output }: ServiceProcess, from: number): string[] =>
  output()
    .slice(from)
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { msg: string }).msg)
    .filter((message) => !unrelated.has(message))

test('an outage of Redis is two lines in each service, however long it lasts', async () => {
  const from = services.map(({ output }) => output().length)
  await redis.kill()
  await sleep(outageMs)
  await redis.restart()
  for (const [index, service] of services.entries()) {
    await expect.poll(() => saidSince(service, from[index] ?? 0), { timeout: 60_000 }).toContain('Redis is back')
    expect(saidSince(service, from[index] ?? 0)).toEqual(['Redis does not answer; waiting until it is back', 'Redis is back'])
  }
})

test.each(['kill', 'pause'] as const)('a service that is told to stop ends, though Redis does not answer (%s)', async (outage) => {
  if (outage === 'kill') await redis.kill()
  else redis.pause()
  await sleep(500)
  for (const { child } of services) child.kill('SIGTERM')
  // Each ends by itself within its grace plus five seconds; a busy machine gets twice that.
  const late = sleep((grace + 5) * 2000, 'late')
  for (const { ended } of services) expect(await Promise.race([ended, late])).toBeOneOf([0, 1])
  if (outage === 'pause') redis.resume()
})
