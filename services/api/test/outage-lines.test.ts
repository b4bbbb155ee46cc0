/** What both services, as processes, do when Redis goes away: they log one line then and one when it is back, and end when they are told to. */
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

/** How long an outage lasts after both services have noticed it, in ms: long enough for every connection to fail several times. */
const outageMs = 4000
let redis: RedisServer
let dir: string
let services: ServiceProcess[]
beforeEach(async () => {
  redis = await startRedis()
  dir = await mkdtemp(join(tmpdir(), 'easel-outage-'))
  const env = { REDIS_URL: redis.url, STORAGE: 'local', STORAGE_DIR: dir, SHUTDOWN_GRACE: '3', METRICS_LOG_INTERVAL: '1' }
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

/** The messages of the whole lines since then. */
const saidSince = ({ output }: ServiceProcess, from: number): string[] =>
  output()
    .slice(from)
    .split('\n')
    .slice(0, -1)
    .map((line) => (JSON.parse(line) as { msg: string }).msg)
    .filter((message) => !unrelated.has(message))

test('an outage of Redis is two lines in the log of each service, however long it lasts', async () => {
  const from = services.map(({ output }) => output().length)
  const said = (): string[][] => services.map((service, index) => saidSince(service, from[index] ?? 0))
  const [away, back] = ['Redis does not answer; waiting until it is back', 'Redis is back']
  await redis.kill()
  await expect.poll(said).toEqual([[away], [away]])
  await sleep(outageMs)
  await redis.restart()
  const both = [away, back]
  await expect.poll(said).toEqual([both, both])
})

test.each(['kill', 'pause'] as const)('a service that is told to stop ends even though Redis does not answer (%s)', async (outage) => {
  if (outage === 'kill') await redis.kill()
  else redis.pause()
  await sleep(500)
  for (const { child } of services) child.kill('SIGTERM')
  // Each ends by itself soon after its grace.
  for (const { ended } of services) expect(await ended).toBeOneOf([0, 1])
  if (outage === 'pause') redis.resume()
})
