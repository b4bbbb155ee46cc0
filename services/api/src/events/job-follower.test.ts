import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createJobStore, createRedis, waitUntilReady } from '@easel/job-store'
import type { JobEnd, JobRecord, JobStore, RedisConnection, StreamedJobEvent } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { JobFollower, isEventId } from './job-follower.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let subscriber: RedisConnection
let store: JobStore
let follower: JobFollower
const never = new AbortController().signal
const success: JobEnd = {
  status: 'succeeded',
  output: { images: [{ key: 'images/a-0.png', width: 64, height: 64, seed: 7, content_type: 'image/png', sha256: 'ab' }] },
  timings: { queue_ms: 1, encode_ms: 2, denoise_ms: 3, decode_ms: 4, upload_ms: 5, total_ms: 6 },
  gpuMs: 8,
  bytes: 9,
}

beforeAll(async () => {
  server = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  subscriber = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await Promise.all([waitUntilReady(redis, 60_000), waitUntilReady(subscriber, 60_000)])
  store = createJobStore({ redis, prefix: '{test}' })
})
afterAll(async () => {
  redis.disconnect()
  subscriber.disconnect()
  await server.stop()
})
beforeEach(() => {
  follower = new JobFollower({ store, subscriber })
})
afterEach(() => follower.close())

async function createJob(): Promise<string> {
  const input = { model: 'm', prompt: 'p', negative_prompt: '', width: 64, height: 64, num_inference_steps: 4, guidance_scale: 4 }
  const rest = { num_images_per_prompt: 1, seed: 7, max_sequence_length: 20, output_format: 'png' as const }
  const id = uuidv7()
  await store.create({ id, owner: 'public', createdAt: Date.now(), input: { ...input, ...rest }, priority: 0 })
  return id
}

async function read(id: string, after?: string, from = follower): Promise<StreamedJobEvent[]> {
  return await Array.fromAsync(from.follow(id, { signal: never, ...(after !== undefined && { after }) }))
}

async function waitForReaders(count: number): Promise<void> {
  while (follower.readers !== count) await sleep(5)
}

describe('following a job', () => {
  test('gives the same events in the same order, up to the end, from the beginning and after the job has ended', async () => {
    const id = await createJob()
    const early = read(id)
    await waitForReaders(1)
    await store.start(id, 'w')
    for (let step = 1; step <= 30; step++) await store.progress(id, step, 30)
    await store.end(id, { status: 'succeeded' })
    const events = await early
    expect(events.map((event) => event.type)).toEqual(['status', 'status', ...Array<string>(30).fill('progress'), 'done'])
    expect(await read(id)).toEqual(events)
    expect(await read(id, events[9]?.id)).toEqual(events.slice(10))
    expect(await read(id, events.at(-1)?.id)).toEqual([])
    expect(follower.readers).toBe(0)
  })

  test('loses no event between the replay and the wake-ups, however the job and its followers interleave', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, createJob))
    const all = await Promise.all(
      ids.map(async (id, i) => {
        const run = (async () => {
          await store.start(id, 'w')
          for (let step = 1; step <= 10; step++) await store.progress(id, step, 10)
          await store.end(id, { status: 'succeeded' })
        })()
        await sleep(i)
        const events = await read(id)
        await run
        return events.map((event) => (event.type === 'progress' ? event.step : event.type))
      }),
    )
    for (const events of all) expect(events).toEqual(['status', 'status', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 'done'])
  })

  test('gives the end of a job, once, even if its stream has expired', async () => {
    const id = await createJob()
    await store.requestCancel(id)
    await redis.del(store.keys.events(id))
    const events = await read(id)
    expect(events).toMatchObject([{ type: 'done', status: 'canceled' }])
    expect(isEventId(events[0]?.id ?? '')).toBe(true)
    expect(await read(id, events[0]?.id)).toEqual([])
  })

  test('gives no events of a job that does not exist', async () => {
    expect(await read(uuidv7())).toEqual([])
  })

  test('notices the end even if nothing wakes the reader', async () => {
    const deaf = new JobFollower({ store, subscriber, pollIntervalMs: 20 })
    const id = await createJob()
    const events = read(id, undefined, deaf)
    using reads = vi.spyOn(store, 'readEvents')
    // From all channels. Once the reader has dealt with the wake-ups until then, nothing will wake it.
    await subscriber.unsubscribe()
    await expect.poll(() => reads.mock.calls.length).toBeGreaterThan(5)
    await store.requestCancel(id)
    expect((await events).map((event) => event.type)).toEqual(['status', 'done'])
    await deaf.close()
  })

  test('continues when Redis goes away and comes back', async () => {
    const id = await createJob()
    const events = read(id)
    await waitForReaders(1)
    await server.kill()
    await expect.poll(() => [redis.status, subscriber.status]).not.toContain('ready')
    await server.restart()
    await Promise.all([waitUntilReady(redis, 60_000), waitUntilReady(subscriber, 60_000)])
    await store.start(id, 'w')
    await store.end(id, { status: 'failed' })
    expect((await events).map((event) => event.type)).toEqual(['status', 'status', 'done'])
  })

  test('ends when the signal aborts or the follower is closed, and leaves no listener behind', async () => {
    const listeners = subscriber.listenerCount('message')
    const id = await createJob()
    const leaving = new AbortController()
    const left = Array.fromAsync(follower.follow(id, { signal: leaving.signal }))
    const stayed = read(id)
    await waitForReaders(2)
    leaving.abort()
    await left
    expect(follower.readers).toBe(1)
    await follower.close()
    await stayed
    expect(follower.readers).toBe(0)
    expect(subscriber.listenerCount('message')).toBe(listeners - 1)
  })
})

describe('waiting for the end', () => {
  test('gives the record as soon as the job has ended', async () => {
    const id = await createJob()
    const waiting = follower.waitForEnd(id, { timeoutMs: 20_000 })
    await waitForReaders(1)
    await store.start(id, 'w')
    await store.end(id, { status: 'succeeded', output: { images: [] } })
    expect(await waiting).toMatchObject({ id, status: 'succeeded', output: { images: [] } })
    expect(await follower.waitForEnd(id, { timeoutMs: 0 })).toMatchObject({ id, status: 'succeeded' })
  })

  test('is not woken by progress, as following is', async () => {
    const id = await createJob()
    const counting = createJobStore({ redis, prefix: '{test}' })
    const look = vi.spyOn(counting, 'get')
    const own = new JobFollower({ store: counting, subscriber, pollIntervalMs: 100_000 })
    const events = read(id, '0', own)
    const waiting = own.waitForEnd(id, { timeoutMs: 100_000 })
    await store.start(id, 'w')
    for (let step = 1; step <= 5; step++) await store.progress(id, step, 5)
    await store.end(id, { status: 'succeeded' })
    expect(await waiting).toMatchObject({ status: 'succeeded' })
    expect((await events).length).toBe(8)
    // Each of the two reads at once; the one that waits reads again when the subscription is ready, and at the end.
    expect(look.mock.calls.length).toBeLessThanOrEqual(4)
    await own.close()
  })

  test('takes the record from the news of the end, just as a read would give it, when the caller has just read the record', async () => {
    const counting = createJobStore({ redis, prefix: '{test}' })
    const look = vi.spyOn(counting, 'get')
    const own = new JobFollower({ store: counting, subscriber, pollIntervalMs: 100_000 })
    const [heard, failing, waited] = [await createJob(), await createJob(), await createJob()]
    const records = await store.getMany([heard, failing, waited])
    const wait = (n: number) => own.waitForEnd(records[n]?.id ?? '', { timeoutMs: 100_000, justRead: records[n] })
    // Redis answers in order, so the follower's own subscription is ready after this.
    await subscriber.subscribe(store.keys.endsChannel)
    const first = own.waitForEnd(heard, { timeoutMs: 100_000 })
    await store.start(heard, 'w')
    await store.progress(heard, 2, 4)
    await store.end(heard, success)
    await first
    look.mockClear()
    const waiting = wait(2)
    await store.start(waited, 'w')
    await store.start(waited, 'w2')
    await store.addStrike(waited)
    await store.end(waited, success)
    expect(await waiting).toEqual(await store.get(waited))
    // This job ended after the caller had read its record and before the wait began.
    expect(await wait(0)).toEqual(await store.get(heard))
    expect(look).not.toHaveBeenCalled()
    // The news does not say how a job failed, so the record is read.
    const failed = wait(1)
    await store.end(failing, { status: 'failed', error: { code: 'internal', message: 'no', retryable: true } })
    expect(await failed).toEqual(await store.get(failing))
    expect(look).toHaveBeenCalledTimes(1)
    await own.close()
  })

  test('reads the record, even if the caller has just read it, while no news can arrive', async () => {
    const id = await createJob()
    const justRead = (await store.get(id)) as JobRecord
    await store.end(id, { status: 'failed' })
    const own = new JobFollower({ store, subscriber, pollIntervalMs: 100_000 })
    expect(await own.waitForEnd(id, { timeoutMs: 100_000, justRead })).toMatchObject({ id, status: 'failed' })
    await own.close()
  })

  test('gives nothing when the time is over, the signal aborts or the job does not exist', async () => {
    const id = await createJob()
    expect(await follower.waitForEnd(id, { timeoutMs: 30 })).toBeUndefined()
    expect(await follower.waitForEnd(id, { timeoutMs: 20_000, signal: AbortSignal.timeout(30) })).toBeUndefined()
    expect(await follower.waitForEnd(uuidv7(), { timeoutMs: 20_000 })).toBeUndefined()
    expect(follower.readers).toBe(0)
  })
})

describe('an entry id', () => {
  test('is one that Redis accepts as the start of a range', () => {
    for (const id of ['0-0', '1764000000000-0', '9223372036854775807-12']) expect(isEventId(id)).toBe(true)
    for (const id of ['', '0', '5', '-', '+', '(1-1', '1-1-1', '01-1', '1-', '-1', 'a-b', '1-1 ', '9223372036854775808-0', '1'.repeat(40)])
      expect(isEventId(id)).toBe(false)
  })
})
