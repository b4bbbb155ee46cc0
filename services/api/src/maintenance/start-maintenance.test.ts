import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Worker } from 'bullmq'
import type { Queue } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { jobErrorTable } from '@easel/contract'
import type { WebhookBody } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import type { JobRecord, NewJobRecord, RedisConnection } from '@easel/job-store'
import { createStorage, StorageError } from '@easel/storage'
import { pauseMaintenance } from '../../test/pause-maintenance.ts'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { endAbandoned } from './end-abandoned.ts'
import { expireQueued } from './expire-queued.ts'
import { requeueOrphans } from './requeue-orphans.ts'
import { startMaintenance } from './start-maintenance.ts'
import { sweepExpired } from './sweep-expired.ts'

let api: TestApi
let connection: RedisConnection
let maintenance: Queue
let clockOffset = 0
let hook: string
const told: WebhookBody[] = []
const receiver = createServer((request, response) => {
  let text = ''
  request.on('data', (chunk: Buffer) => (text += chunk.toString()))
  request.on('end', () => {
    told.push(JSON.parse(text) as WebhookBody)
    response.end()
  })
})

beforeAll(async () => {
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
  api = await startTestApi({
    env: { RESULT_TTL: '3600', WEBHOOK_ALLOW_INSECURE: 'true' },
    now: () => Date.now() + clockOffset,
  })
  connection = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  // The api's own housekeeping could do what a test is about to do, so it stands still until a test resumes it.
  maintenance = await pauseMaintenance(api)
})
afterEach(() => {
  clockOffset = 0
  told.length = 0
})
afterAll(async () => {
  await maintenance.close()
  connection.disconnect()
  await api.close()
  receiver.close()
  receiver.closeAllConnections()
})

const toldOf = (id: string): string[] => told.filter(({ data }) => data.id === id).map(({ data }) => data.status)

/** Makes a record such as an api leaves behind if it ends right after writing it. */
async function createOrphan(over: Partial<NewJobRecord> = {}): Promise<string> {
  const { id: model } = await api.submit()
  const { input } = (await api.worker.store.get(model)) as JobRecord
  await api.deps.queues.remove(input.model, model)
  await api.worker.store.delete(model)
  const record = { id: uuidv7(), owner: 'public', createdAt: Date.now(), input, priority: 0, ...over }
  await api.worker.store.create(record)
  return record.id
}

const stateOf = async (id: string): Promise<string | undefined> => (await api.deps.queues.of('tiny-scenes').getJob(id))?.getState()

describe('retention', () => {
  test('removes pictures, thumbnails and every trace in Redis when the time is over, and the job is answered with 410', async () => {
    const job = await api.submit({ webhook: hook, num_images_per_prompt: 2 })
    await api.worker.succeed(job.id)
    await api.deps.queues.remove('tiny-scenes', job.id)
    await expect.poll(() => toldOf(job.id)).toEqual(['succeeded'])
    const folder = join(api.storageDir, 'images')
    const files = async (): Promise<string[]> => (await readdir(folder)).filter((name) => name.startsWith(job.id))
    expect(await files()).toHaveLength(4)

    clockOffset = 3_590_000
    await sweepExpired(api.deps)
    expect((await api.get(`/v1/jobs/${job.id}`)).status).toBe(200)
    expect(await files()).toHaveLength(4)

    clockOffset = 3_610_000
    expect(await sweepExpired(api.deps)).toBe(1)
    expect(await files()).toEqual([])
    for (const path of [`/v1/jobs/${job.id}`, `/v1/jobs/${job.id}/webhooks`, `/images/${job.id}-0.png`]) {
      expect(await api.get(path)).toMatchObject({ status: 410 })
    }
    const own = (await connection.keys('*')).filter((key) => key.includes(job.id))
    // BullMQ remembers sent messages for an hour, in order to recognise them.
    expect(own.filter((key) => !/:(webhooks|generate-tiny-scenes):/.test(key))).toEqual([])
    expect(await connection.zscore(api.deps.store.keys.ended, job.id)).toBeNull()
    expect(await connection.zscore(api.deps.store.keys.index('', 'succeeded'), job.id)).toBeNull()
    expect(await sweepExpired(api.deps)).toBe(0)
  })

  test('removes the pictures that an unsuccessful job left, and does not touch jobs that have not ended', async () => {
    const [succeeded, waiting] = [await api.submit(), await api.submit()]
    await api.worker.succeed(succeeded.id)
    const canceled = await api.submit()
    await api.worker.store.start(canceled.id, 'w')
    await api.deps.storage.put(`images/${canceled.id}-0.png`, Buffer.from('half'), { contentType: 'image/png' })
    await api.deps.storage.put(`images/${canceled.id}-0.thumb.webp`, Buffer.from('half'), { contentType: 'image/webp' })
    await api.worker.store.end(canceled.id, { status: 'canceled' })
    clockOffset = 3_610_000
    expect(await sweepExpired(api.deps)).toBe(2)
    for (const name of ['0.png', '0.thumb.webp']) expect(await api.deps.storage.open(`images/${canceled.id}-${name}`)).toBeUndefined()
    expect((await api.worker.store.get(waiting.id))?.status).toBe('queued')
  })

  test('keeps the record of a job whose pictures could not be removed for the next sweep, and continues with the others', async () => {
    const [stuck, other] = [await api.submit(), await api.submit()]
    for (const { id } of [stuck, other]) await api.worker.succeed(id)
    clockOffset = 3_610_000
    const storage = Object.assign(createStorage(api.deps.config.storage), {
      async deleteMany(keys: readonly string[]) {
        const [failing, others] = [keys.filter((key) => key.includes(stuck.id)), keys.filter((key) => !key.includes(stuck.id))]
        await api.deps.storage.deleteMany(others)
        return new Map(failing.map((key) => [key, new StorageError('unavailable', 'disk')]))
      },
    })
    using warn = vi.spyOn(api.deps.logger, 'warn')
    expect(await sweepExpired({ ...api.deps, storage })).toBe(1)
    const { requestId } = (await api.worker.store.get(stuck.id)) as JobRecord
    expect(requestId).toBeDefined()
    expect(warn.mock.calls).toMatchObject([[{ jobId: stuck.id, requestId }, expect.stringContaining('past its retention')]])
    expect(await api.worker.store.get(stuck.id)).toBeDefined()
    expect(await api.worker.store.get(other.id)).toBeUndefined()
    expect(await sweepExpired(api.deps)).toBe(1)
  })
})

describe('a job that no queue carries', () => {
  test('is queued again after half a minute, with its priority and its webhook', async () => {
    const id = await createOrphan({ webhook: hook, priority: 3 })
    expect(await requeueOrphans(api.deps)).toBe(0)
    expect(await stateOf(id)).toBeUndefined()
    clockOffset = 31_000
    expect(await requeueOrphans(api.deps)).toBe(1)
    expect(await stateOf(id)).toBe('prioritized')
    expect(await requeueOrphans(api.deps)).toBe(0)
    await api.worker.succeed(id)
    await api.deps.queues.remove('tiny-scenes', id)
    await expect.poll(() => toldOf(id)).toEqual(['succeeded'])
  })

  test('is queued again if it was running or if BullMQ had given it up, and its webhook is told only of the end', async () => {
    const running = await createOrphan({ webhook: hook })
    await api.worker.store.start(running, 'w')
    const job = await api.submit({ webhook: hook })
    const queue = api.deps.queues.of('tiny-scenes')
    // A job that BullMQ has given up is among the failed ones and has an end.
    await connection.hset(queue.toKey(job.id), 'finishedOn', Date.now())
    await connection.zrem(queue.toKey('prioritized'), job.id)
    await connection.zadd(queue.toKey('failed'), Date.now(), job.id)
    clockOffset = 31_000
    expect(await requeueOrphans(api.deps)).toBe(2)
    expect(await stateOf(running)).toBe('prioritized')
    expect(await stateOf(job.id)).toBe('prioritized')
    for (const id of [running, job.id]) {
      await api.worker.succeed(id)
      await queue.remove(id)
      await expect.poll(() => toldOf(id), { timeout: 60_000 }).toEqual(['succeeded'])
    }
  })

  test('is left alone if it has ended, and so is a job that waits in the queue', async () => {
    const ended = await createOrphan()
    await api.worker.succeed(ended)
    const waiting = await api.submit()
    clockOffset = 31_000
    expect(await requeueOrphans(api.deps)).toBe(0)
    expect(await stateOf(ended)).toBeUndefined()
    expect(await stateOf(waiting.id)).toBe('prioritized')
  })
})

test('a job that was not started within its expires_in fails even if there is no worker, says so, and its webhook is told', async () => {
  const late = await api.submit({ webhook: hook, expires_in: 10 })
  const orphan = await createOrphan({ webhook: hook, expiresAt: Date.now() + 10_000 })
  const patient = await api.submit({ expires_in: 100 })
  expect(await expireQueued(api.deps)).toBe(0)
  clockOffset = 11_000
  expect(await expireQueued(api.deps)).toBe(2)
  const unserved = { code: 'expired', message: `${jobErrorTable.expired.message} No worker serves tiny-scenes.`, retryable: true }
  expect(await (await api.get(`/v1/jobs/${late.id}`)).json()).toMatchObject({ status: 'failed', error: unserved })
  expect(await (await api.get(`/v1/predictions/${late.id}`)).json()).toMatchObject({ status: 'failed', error: unserved.message })
  expect((await api.worker.store.get(patient.id))?.status).toBe('queued')
  expect(await stateOf(late.id)).toBeUndefined()
  await expect.poll(() => [toldOf(late.id), toldOf(orphan)]).toEqual([['failed'], ['failed']])
})

test('a job that expires while a worker serves its model does not claim that none does', async () => {
  const heartbeat = { model: 'tiny-scenes', concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1, ready: true }
  await api.worker.registry.heartbeat({ id: 'w1', ...heartbeat })
  const { id } = await api.submit({ expires_in: 10 })
  clockOffset = 11_000
  expect(await expireQueued(api.deps)).toBe(1)
  await api.worker.registry.removeWorker('w1')
  expect((await api.worker.store.get(id))?.error).toEqual({ code: 'expired', ...jobErrorTable.expired })
})

describe('a running job whose worker is gone', () => {
  /** Makes a job such as a worker leaves behind when it hands over at SIGTERM: running in the record, waiting in the queue. */
  const leave = async (body: Record<string, unknown> = {}): Promise<string> => {
    const { id } = await api.submit({ webhook: hook, ...body })
    await api.worker.store.start(id, 'gone')
    return id
  }
  const alive = { model: 'tiny-scenes', concurrency: 1, active: 1, device: 'cpu', engine_memory_bytes: 1, ready: true }

  test('can be canceled without any worker: it leaves the queue, and its webhook is told', async () => {
    const id = await leave()
    expect((await api.post(`/v1/jobs/${id}/cancel`)).status).toBe(202)
    expect(await endAbandoned(api.deps)).toBe(1)
    expect(await (await api.get(`/v1/jobs/${id}`)).json()).toMatchObject({ status: 'canceled' })
    expect(await stateOf(id)).toBeUndefined()
    await expect.poll(() => toldOf(id)).toEqual(['canceled'])
  })

  test('fails when its timeout has passed since its first start, and not before', async () => {
    const [id, patient] = [await leave({ timeout: 10 }), await leave()]
    expect(await endAbandoned(api.deps)).toBe(0)
    clockOffset = 10_100
    expect(await endAbandoned(api.deps)).toBe(1)
    expect(await (await api.get(`/v1/jobs/${id}`)).json()).toMatchObject({ status: 'failed', error: { code: 'timeout' } })
    expect((await api.worker.store.get(patient))?.status).toBe('running')
    await expect.poll(() => toldOf(id)).toEqual(['failed'])
  })

  test('is left to its worker as long as that is alive or holds the job', async () => {
    const id = await leave()
    await api.post(`/v1/jobs/${id}/cancel`)
    await api.worker.registry.heartbeat({ id: 'gone', ...alive })
    expect(await endAbandoned(api.deps)).toBe(0)
    await api.worker.registry.removeWorker('gone')
    const queue = api.deps.queues.of('tiny-scenes')
    const holder = new Worker(queue.name, null, { connection, prefix: api.deps.config.queuePrefix, autorun: false })
    for (;;) {
      const held = await holder.getNextJob('token', { block: false })
      if (held?.id === id) break
    }
    expect(await endAbandoned(api.deps)).toBe(0)
    expect((await api.worker.store.get(id))?.status).toBe('running')
    await connection.del(`${queue.toKey(id)}:lock`)
    expect(await endAbandoned(api.deps)).toBe(1)
    await holder.close()
  })
})

test('waiting jobs run by priority and age, so that one that has waited long goes before a new and urgent one', async () => {
  const now = Date.now()
  const ofAge = (hours: number, priority: number): Promise<string> => {
    const createdAt = now - hours * 3_600_000
    return createOrphan({ id: uuidv7({ msecs: createdAt }), createdAt, priority })
  }
  const [urgent, normal, unimportant, old, plain] = [
    await ofAge(0, 10),
    await ofAge(0, 0),
    await ofAge(0, -10),
    await ofAge(4, -10),
    await ofAge(1, 0),
  ]
  clockOffset = 31_000
  await requeueOrphans(api.deps)
  const order = (await api.deps.queues.of('tiny-scenes').getPrioritized()).map((job) => job.id)
  const those = [urgent, normal, unimportant, old, plain]
  expect(order.filter((id) => those.includes(id ?? ''))).toEqual([old, urgent, plain, normal, unimportant])
})

test('a store that hangs holds up the sweep and nothing else', async () => {
  const swept = await api.submit()
  await api.worker.succeed(swept.id)
  clockOffset = 3_610_000
  const stuck = Promise.withResolvers<Map<string, StorageError>>()
  // The api does its own housekeeping too, and whichever of the two takes the sweep hangs.
  using deleteMany = vi.spyOn(api.deps.storage, 'deleteMany').mockReturnValue(stuck.promise)
  await maintenance.resume()
  const replica = startMaintenance(api.deps, { connection, everyMs: 100 })
  await expect.poll(() => deleteMany.mock.calls.length).toBeGreaterThan(0)
  for (let round = 0; round < 3; round++) {
    const late = await createOrphan({ expiresAt: Date.now() - 1000 })
    await expect.poll(async () => (await api.worker.store.get(late))?.status).toBe('failed')
  }
  // A replica skips a round while its last one is still under way, so each of the two has called once at most.
  expect(deleteMany.mock.calls.length).toBeLessThanOrEqual(2)
  stuck.resolve(new Map())
  await expect.poll(async () => await api.worker.store.get(swept.id)).toBeUndefined()
  await replica.close()
})

test('every task is done again and again, by one replica at a time', async () => {
  const id = await createOrphan({ expiresAt: Date.now() - 1000 })
  const left = await api.submit()
  await api.worker.store.start(left.id, 'gone')
  await api.worker.store.requestCancel(left.id)
  await maintenance.resume()
  const replicas = [startMaintenance(api.deps, { connection, everyMs: 100 }), startMaintenance(api.deps, { connection, everyMs: 100 })]
  await expect.poll(async () => (await api.worker.store.get(id))?.status, { timeout: 60_000 }).toBe('failed')
  const second = await createOrphan({ expiresAt: Date.now() - 1000 })
  await expect.poll(async () => (await api.worker.store.get(second))?.status, { timeout: 60_000 }).toBe('failed')
  await expect.poll(async () => (await api.worker.store.get(left.id))?.status, { timeout: 60_000 }).toBe('canceled')
  const names = (await maintenance.getJobSchedulers()).map((scheduler) => scheduler.name)
  expect(names.toSorted((a, b) => a.localeCompare(b))).toEqual([
    'end-abandoned',
    'expire-queued',
    'requeue-orphans',
    'sweep-expired',
    'sweep-inputs',
  ])
  await Promise.all(replicas.map((replica) => replica.close()))
})
