/**
 * The whole service on a Redis Cluster, behind Sentinels, and over TLS as a user with few rights. Every part is a real process, and nodes are killed
 * under load.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterEach, expect, test } from 'vitest'
import { type Job, isEnded } from '@easel/contract'
import { aclRules, clusterAclRules } from '@easel/job-store/test/acl-rules'
import { startRedisCluster } from '@easel/job-store/test/redis-cluster'
import { findRedisServer } from '@easel/job-store/test/redis-server'
import { startSentinelGroup } from '@easel/job-store/test/redis-sentinel'
import { startTlsServer, whyNoTls } from '@easel/job-store/test/redis-tls'
import { untilStatus } from './start-process.ts'
import { endlessBody, startService } from './start-service.ts'
import type { Service } from './start-service.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const shortBody = { prompt: 'a red boat on the sea', seed: 42, num_inference_steps: 8, width: 128, height: 128 }
const noServer = findRedisServer() === undefined ? 'no redis-server or valkey-server' : undefined
const noTls = whyNoTls()
/** Part of a test's name, which shows what was not tested. */
const because = (why: string | undefined): string => (why === undefined ? '' : ` (skipped: ${why})`)

/** The logs of the current test's processes. */
let outputs: (() => string)[] = []
const expectNothingForbidden = (): void => {
  for (const output of outputs) expect(output()).not.toMatch(/NOPERM|WRONGPASS|NOAUTH/)
}

/** Starts an api and two workers on this Redis. */
async function startOn({ variables, stop }: { variables: Record<string, string>; stop: () => Promise<void> }): Promise<Service> {
  cleanups.push(stop)
  const service = await startService(variables)
  cleanups.push(() => service.close())
  const workers = await Promise.all([service.startWorker(variables), service.startWorker(variables)])
  outputs = [service.api, ...workers].map(({ output }) => output)
  await untilStatus(`${service.api.url}/readyz`, 200)
  return service
}

async function expectRefusedForNow(response: Response): Promise<void> {
  expect([response.status, await response.text()]).toEqual([503, expect.stringContaining('queue_unavailable')])
}

/** Submits jobs one after another until told to stop. Any refusal meanwhile must be a 503. */
function startLoad(service: Service): { accepted: string[]; stop: () => Promise<void> } {
  const accepted: string[] = []
  const ending = new AbortController()
  const load = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      const response = await service.post('/v1/jobs', { ...shortBody, seed: accepted.length, webhook: service.webhook() })
      if (response.status === 202) accepted.push(((await response.json()) as Job).id)
      else await expectRefusedForNow(response)
      await sleep(150)
    }
  }
  const running = load()
  return {
    accepted,
    async stop() {
      ending.abort()
      await running
    },
  }
}

async function untilEnded(service: Service, id: string): Promise<Job> {
  for (;;) {
    const response = await service.get(`/v1/jobs/${id}`)
    const body = await response.text()
    if (response.status !== 503) {
      if (response.status !== 200) throw new Error(`Expected 200 for the job, got ${response.status}: ${body}`)
      const job = JSON.parse(body) as Job
      if (isEnded(job.status)) return job
    }
    await sleep(100)
  }
}

/** Checks that each job succeeded, told its followers so once, and told its webhook under one message id. */
async function expectEndedOnce(service: Service, ids: string[]): Promise<void> {
  for (const id of ids) {
    expect(await untilEnded(service, id)).toMatchObject({ status: 'succeeded', error: null })
    expect(await service.countEnds(id)).toBe(1)
  }
  const told = (): Set<string> => new Set(service.delivered.map(({ messageId }) => messageId))
  await expect.poll(() => told().size, { timeout: 60_000 }).toBe(ids.length)
  expect(told()).toEqual(new Set(ids.map((id) => `msg_${id}_completed`)))
}

/** Waits until more jobs are accepted than before. */
async function untilMoreAreAccepted(accepted: string[], more = 5): Promise<void> {
  const before = accepted.length
  await expect.poll(() => accepted.length, { timeout: 60_000 }).toBeGreaterThan(before + more)
}

test.skipIf(noServer !== undefined)(
  `on a Redis Cluster, the death of any master under load loses no job and ends none twice${because(noServer)}`,
  async () => {
    const cluster = await startRedisCluster('{easel}')
    const service = await startOn(cluster)
    const load = startLoad(service)
    await untilMoreAreAccepted(load.accepted)

    // It has none of our keys, so only connections that asked it where the keys are, or listened there, have to move.
    await cluster.other.kill()
    await untilMoreAreAccepted(load.accepted)
    await cluster.other.restart()
    await cluster.untilWhole()
    await untilMoreAreAccepted(load.accepted)

    // It has all of our keys, so its replica is promoted.
    expect(await cluster.findHolder()).toBe(cluster.holder.port)
    await cluster.holder.kill()
    await expect.poll(() => cluster.findHolder(), { timeout: 60_000 }).not.toBe(cluster.holder.port)
    await untilMoreAreAccepted(load.accepted)
    await load.stop()
    await expectEndedOnce(service, load.accepted)

    // The killed master returns as a replica, and nobody takes it for the master.
    await cluster.holder.restart()
    await cluster.untilWhole()
    const [last, canceled] = [await service.submit(shortBody), await service.submit(endlessBody)]
    await service.until(canceled, ({ status }) => status === 'running')
    expect((await service.post(`/v1/jobs/${canceled}/cancel`, {})).status).toBeLessThan(300)
    expect(await untilEnded(service, canceled)).toMatchObject({ status: 'canceled' })
    expect(await untilEnded(service, last)).toMatchObject({ status: 'succeeded' })
    expectNothingForbidden()
  },
)

test.skipIf(noServer !== undefined)(
  `when a whole Redis Cluster goes away and comes back, each of its jobs ends once${because(noServer)}`,
  async () => {
    const cluster = await startRedisCluster('{easel}')
    const service = await startOn(cluster)
    const ids: string[] = []
    for (let seed = 0; seed < 6; seed++)
      ids.push(await service.submit({ ...shortBody, num_inference_steps: 150, seed, webhook: service.webhook() }))
    await service.until(ids[0] as string, ({ progress }) => progress.step >= 3)
    await Promise.all(cluster.nodes.map((node) => node.kill()))
    await expectRefusedForNow(await service.post('/v1/jobs', shortBody))
    await sleep(8000)
    await expectRefusedForNow(await service.post('/v1/jobs', shortBody))
    await Promise.all(cluster.nodes.map((node) => node.restart()))
    await cluster.untilWhole()
    await untilStatus(`${service.api.url}/readyz`, 200)
    await expectEndedOnce(service, ids)
    expect(await untilEnded(service, await service.submit(shortBody))).toMatchObject({ status: 'succeeded' })
  },
)

test.skipIf(noServer !== undefined)(
  `behind a Sentinel, jobs continue on the replica when the master dies under load${because(noServer)}`,
  async () => {
    const group = await startSentinelGroup()
    const service = await startOn(group)
    const load = startLoad(service)
    await untilMoreAreAccepted(load.accepted)
    await group.master.kill()
    await expect.poll(() => group.findMaster(), { timeout: 60_000 }).toBe(group.replica.port)
    await untilMoreAreAccepted(load.accepted)
    await load.stop()
    await expectEndedOnce(service, load.accepted)
  },
)

test.skipIf(noTls !== undefined)(
  `over TLS, a user limited to our keys and channels is enough for jobs, events, webhooks and metrics${because(noTls)}`,
  async () => {
    const server = await startTlsServer()
    const variables = { ...server.variables, RATE_LIMIT: '1000/min' }
    const service = await startOn({ variables, stop: () => server.stop() })
    const id = await service.submit({ ...shortBody, webhook: service.webhook() })
    await service.until(id, ({ progress }) => progress.step >= 1)
    const canceled = await service.submit(endlessBody)
    expect((await service.post(`/v1/jobs/${canceled}/cancel`, {})).status).toBeLessThan(300)
    expect(await untilEnded(service, canceled)).toMatchObject({ status: 'canceled' })
    await expectEndedOnce(service, [id])
    for (const path of ['/v1/jobs', '/v1/capabilities', '/metrics']) expect([path, (await service.get(path)).status]).toEqual([path, 200])
    // Maintenance has been scheduled, and no command that a service needs was forbidden.
    expectNothingForbidden()

    const stranger = new Redis(server.port, 'localhost', {
      tls: { ca: readFileSync(server.caFile) },
      username: 'easel',
      password: server.password,
      retryStrategy: null,
    })
    cleanups.push(async () => stranger.disconnect())
    await expect(stranger.get('other')).rejects.toThrow('NOPERM')
    await expect(stranger.flushall()).rejects.toThrow('NOPERM')
    await expect(stranger.publish('other', '')).rejects.toThrow('NOPERM')
  },
)

test('docs/redis.md gives the rules of the users with whom these tests were run', () => {
  const text = readFileSync(new URL('../../../docs/redis.md', import.meta.url), 'utf8')
  for (const rules of [aclRules, clusterAclRules]) expect(text).toContain(rules)
})
