/** A reply from Redis may be lost after the command was carried out; ioredis then sends the command again. The caller must not notice. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLossyConnection } from '../test/lossy-connection.ts'
import type { LossyConnection } from '../test/lossy-connection.ts'
import { startRedis } from '../test/redis-server.ts'
import type { NewJobRecord } from './job-record.ts'
import { createJobStore } from './create-job-store.ts'
import type { JobStore } from './job-store.ts'
import { type RedisConnection, createRedis, waitUntilReady } from './redis.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let lossy: LossyConnection
let redis: RedisConnection
let store: JobStore

beforeAll(async () => {
  server = await startRedis()
  lossy = await startLossyConnection(server.port)
  redis = createRedis({ url: `redis://${lossy.host}`, use: 'worker', onError: () => {} })
  await waitUntilReady(redis, 60_000)
  store = createJobStore({ redis, prefix: '{test}' })
})
afterAll(async () => {
  redis.disconnect()
  await lossy.close()
  await server.stop()
})

function newJob(over: Partial<NewJobRecord> = {}): NewJobRecord {
  const input = { model: 'm', prompt: 'p', negative_prompt: '', width: 64, height: 64, num_inference_steps: 4, guidance_scale: 4 }
  const rest = { num_images_per_prompt: 1, seed: 7, max_sequence_length: 20, output_format: 'png' as const }
  return { id: uuidv7(), owner: 'public', createdAt: Date.now(), input: { ...input, ...rest }, priority: 0, ...over }
}

async function created(over: Partial<NewJobRecord> = {}): Promise<string> {
  const job = newJob(over)
  await store.create(job)
  return job.id
}

async function started(over: Partial<NewJobRecord> = {}): Promise<string> {
  const id = await created(over)
  await store.start(id, 'w')
  return id
}

/** What the call returns when its first reply is lost. It must have been called once before, so that Redis knows the script. */
async function resent<T>(call: () => Promise<T>): Promise<T> {
  const before = lossy.lost
  lossy.loseNextReply()
  const answer = await call()
  expect(lossy.lost).toBe(before + 1)
  return answer
}

describe('a call whose reply was lost answers as if it had not been', () => {
  test('create, with an idempotency key and without', async () => {
    await created()
    const [plain, keyed] = [newJob(), newJob()]
    expect(await resent(() => store.create(plain))).toEqual({ result: 'created' })
    const idempotency = { key: 'k', fingerprint: 'f', ttlSeconds: 60 }
    expect(await resent(() => store.create(keyed, { idempotency }))).toEqual({ result: 'created' })
    // Even if the job itself has filled the queue.
    const last = newJob({ owner: 'limited' })
    expect(await resent(() => store.create(last, { maxQueuedOfOwner: 1 }))).toEqual({ result: 'created' })
    expect(await store.count('limited', 'queued')).toBe(1)
  })

  test('start: one run is counted, and an end that the call claimed is reported', async () => {
    await started()
    const id = await created()
    expect(await resent(() => store.start(id, 'w'))).toMatchObject({ result: 'running', record: { runs: 1 } })
    expect(await store.start(id, 'w2')).toMatchObject({ result: 'running', record: { runs: 2 } })
    const late = await created({ expiresAt: Date.now() - 1 })
    expect(await resent(() => store.start(late, 'w'))).toMatchObject({ result: 'expired' })
    expect(await store.start(late, 'w')).toMatchObject({ result: 'ended' })
    await store.requestCancel(id)
    expect(await resent(() => store.start(id, 'w'))).toMatchObject({ result: 'canceled' })
    expect(await store.start(id, 'w')).toMatchObject({ result: 'ended' })
  })

  test('end: whoever claimed it is told so, and nobody else is', async () => {
    await store.end(await started(), { status: 'failed' })
    const id = await started()
    expect(await resent(() => store.end(id, { status: 'succeeded' }))).toEqual({ result: 'claimed', status: 'succeeded' })
    expect(await store.end(id, { status: 'failed' })).toEqual({ result: 'ended', status: 'succeeded' })
    const canceled = await started()
    await store.requestCancel(canceled)
    expect(await resent(() => store.end(canceled, { status: 'succeeded' }))).toEqual({ result: 'claimed', status: 'canceled' })
  })

  test('cancel and expiry of a queued job', async () => {
    await store.requestCancel(await created())
    const id = await created()
    expect(await resent(() => store.requestCancel(id))).toBe('canceled')
    expect(await store.requestCancel(id)).toBe('already_canceled')
    await store.expire(await created())
    const late = await created({ expiresAt: Date.now() - 1 })
    expect(await resent(() => store.expire(late))).toBe(true)
    expect(await store.expire(late)).toBe(false)
  })

  test('a strike is counted once', async () => {
    const id = await started()
    expect(await store.addStrike(id)).toBe(1)
    expect(await resent(() => store.addStrike(id))).toBe(2)
    expect(await store.addStrike(id)).toBe(3)
  })

  test('progress and delete', async () => {
    const id = await started()
    await store.progress(id, 1, 4)
    await resent(() => store.progress(id, 2, 4))
    expect(await store.get(id)).toMatchObject({ progress: { step: 2, total: 4 } })
    await store.delete(await created())
    await resent(() => store.delete(id))
    expect(await store.get(id)).toBeUndefined()
  })
})
