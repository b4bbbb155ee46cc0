import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { v7 as uuidv7 } from 'uuid'
import { startRedis } from '../test/redis-server.ts'
import type { NewJobRecord } from './job-record.ts'
import { createJobStore } from './create-job-store.ts'
import type { JobStore } from './job-store.ts'
import { type RedisConnection, createRedis, waitUntilReady } from './redis.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let store: JobStore
let now = Date.now()

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await waitUntilReady(redis, 60_000)
  store = createJobStore({ redis, prefix: '{test}', now: () => now })
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

function newJob(over: Partial<NewJobRecord> = {}): NewJobRecord {
  const input = { model: 'm', prompt: 'p', negative_prompt: '', width: 64, height: 64, num_inference_steps: 4, guidance_scale: 4 }
  const rest = { num_images_per_prompt: 1, seed: 7, max_sequence_length: 20, output_format: 'png' as const }
  return { id: uuidv7(), owner: 'public', createdAt: now, input: { ...input, ...rest }, priority: 0, ...over }
}

async function created(over: Partial<NewJobRecord> = {}): Promise<string> {
  const job = newJob(over)
  expect(await store.create(job)).toEqual({ result: 'created' })
  return job.id
}

describe('job store', () => {
  test('a job that ends before it starts keeps only 200 characters of each prompt, and one that ran keeps all of its input', async () => {
    const prompt = `${'ä'.repeat(199)}\u{1F3A8}${'b'.repeat(4000)}`
    const seed = Number.MAX_SAFE_INTEGER
    const input = { ...newJob().input, prompt, negative_prompt: 'short', prompt_3: 'c'.repeat(500), seed }
    const cut = { ...input, prompt: `${'ä'.repeat(199)}\u{1F3A8}`, prompt_3: 'c'.repeat(200) }
    const canceled = await created({ input })
    expect(await store.requestCancel(canceled)).toBe('canceled')
    const overdue = { input, expiresAt: now - 1 }
    const [expired, late] = [await created(overdue), await created(overdue)]
    expect(await store.expire(expired)).toBe(true)
    expect((await store.start(late, 'w')).result).toBe('expired')
    for (const id of [canceled, expired, late]) expect(await store.get(id)).toMatchObject({ input: cut, inputTruncated: true })

    const ran = await created({ input })
    await store.start(ran, 'w')
    await store.requestCancel(ran)
    await store.end(ran, { status: 'succeeded' })
    const small = await created()
    await store.requestCancel(small)
    expect(await store.get(ran)).toMatchObject({ status: 'canceled', input, inputTruncated: false })
    expect(await store.get(small)).toMatchObject({ status: 'canceled', inputTruncated: false })
  })

  test('the work of jobs is read without their prompts, including that of jobs from an earlier Easel', async () => {
    const [first, second, gone] = [await created(), await created(), uuidv7()]
    await redis.hdel(store.keys.job(second), 'work')
    await store.start(first, 'w')
    await store.progress(first, 2, 4)
    const works = await store.getWorks([first, gone, second])
    const input = { model: 'm', num_inference_steps: 4, num_images_per_prompt: 1, width: 64, height: 64 }
    expect(works[0]).toMatchObject({ id: first, status: 'running', worker: 'w', progress: { step: 2, total: 4 }, input })
    expect(works[0]?.input).not.toHaveProperty('prompt')
    expect(works).toHaveLength(2)
    expect(works[1]).toMatchObject({ id: second, status: 'queued', progress: { step: 0, total: 4 }, input })
  })

  test('all jobs of one owner can be given to another, whatever their state, and doing so again changes nothing', async () => {
    const owner = '0123456789abcdef'
    const [queued, ended] = [await created({ owner }), await created({ owner })]
    await store.requestCancel(ended)
    const other = await created({ owner: 'bob' })
    expect(await store.adopt(owner, 'alice')).toBe(2)
    const idsOf = async (of: string, status?: 'queued' | 'canceled'): Promise<string[]> =>
      (await store.list(of, { limit: 10, ...(status !== undefined && { status }) })).map(({ id }) => id)
    expect(await idsOf('alice')).toEqual([ended, queued])
    expect([await idsOf('alice', 'queued'), await idsOf('alice', 'canceled')]).toEqual([[queued], [ended]])
    expect([await idsOf(owner), await idsOf(owner, 'queued'), await idsOf(owner, 'canceled')]).toEqual([[], [], []])
    expect((await store.get(queued))?.owner).toBe('alice')
    expect(await store.adopt(owner, 'alice')).toBe(0)
    expect(await idsOf('bob')).toEqual([other])
    await store.delete(queued)
    expect([await idsOf('alice', 'queued'), await idsOf('alice')]).toEqual([[], [ended]])
  })

  test('a record comes back as it was written', async () => {
    const job = newJob({
      webhook: 'https://example.com/a',
      webhookEventsFilter: ['started', 'completed'],
      previewEvery: 2,
      priority: -3,
      timeoutSeconds: 9,
    })
    await store.create(job)
    expect(await store.get(job.id)).toMatchObject({ ...job, status: 'queued', progress: { step: 0, total: 4 }, runs: 0, strikes: 0 })
    expect(await store.get(uuidv7())).toBeUndefined()
  })

  test('of many ends that race exactly one is claimed, and the record keeps that one', async () => {
    const id = await created()
    await store.start(id, 'w')
    const ends = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.end(id, { status: i % 2 === 0 ? 'succeeded' : 'failed', output: { images: [] } })),
    )
    expect(ends.filter((end) => end.result === 'claimed')).toHaveLength(1)
    const { status } = (await store.get(id)) ?? {}
    expect(new Set(ends.map((end) => 'status' in end && end.status))).toEqual(new Set([status]))
  })

  test('a cancel accepted for a running job turns a later success into canceled, without output', async () => {
    const id = await created()
    await store.start(id, 'w')
    expect(await store.requestCancel(id)).toBe('cancel_requested')
    expect(await store.isCancelRequested(id)).toBe(true)
    expect(await store.end(id, { status: 'succeeded', output: { images: [] } })).toEqual({ result: 'claimed', status: 'canceled' })
    expect((await store.get(id))?.output).toBeUndefined()
    expect(await store.requestCancel(id)).toBe('already_canceled')
  })

  test('a queued job is canceled at once and cannot be started afterwards', async () => {
    const id = await created()
    expect(await store.requestCancel(id)).toBe('canceled')
    expect(await store.start(id, 'w')).toMatchObject({ result: 'ended' })
    expect(await store.requestCancel('00000000-0000-7000-8000-000000000000')).toBe('missing')
  })

  test('the end of a job deletes its checkpoint, and the usage of a day expires some days later', async () => {
    const id = await created({ owner: 'used' })
    await store.start(id, 'w')
    await store.saveCheckpoint(id, Buffer.from('latents'), 60)
    expect(await store.loadCheckpoint(id)).toBeDefined()
    await store.end(id, { status: 'failed' })
    expect(await store.loadCheckpoint(id)).toBeUndefined()
    const today = store.keys.usageOfDay('used', Math.floor(now / 86_400_000))
    expect(await redis.ttl(today)).toBeGreaterThan(86_400)
  })

  test('workers are told that a running job is canceled, and whoever waits for it is told that it has ended', async () => {
    const { cancelChannel, endsChannel } = store.keys
    const subscriber = createRedis({ url: server.url, use: 'worker', onError: () => {} })
    const heard: string[][] = []
    subscriber.on('message', (...message: string[]) => heard.push(message))
    await subscriber.subscribe(cancelChannel, endsChannel)
    const id = await created()
    await store.start(id, 'w')
    await store.requestCancel(id)
    await store.end(id, { status: 'succeeded' })
    await expect
      .poll(() => heard)
      .toEqual([
        [cancelChannel, id],
        [endsChannel, id],
      ])
    subscriber.disconnect()
  })

  test('a succeeded job cannot be canceled', async () => {
    const id = await created()
    await store.start(id, 'w')
    await store.end(id, { status: 'succeeded' })
    expect(await store.requestCancel(id)).toBe('finished')
  })

  test('a job whose cancel was requested is not started a second time', async () => {
    const id = await created()
    await store.start(id, 'w1')
    await store.requestCancel(id)
    expect(await store.start(id, 'w2')).toMatchObject({ result: 'canceled' })
    expect((await store.get(id))?.status).toBe('canceled')
  })

  test('a job that was not started in time fails as expired, and one that was may be started again later', async () => {
    const late = await created({ expiresAt: now + 1000 })
    const early = await created({ expiresAt: now + 1000 })
    expect(await store.start(early, 'w')).toEqual({ result: 'running', record: await store.get(early) })
    now += 2000
    expect(await store.start(late, 'w')).toEqual({ result: 'expired', record: await store.get(late) })
    expect(await store.get(late)).toMatchObject({ status: 'failed', error: { code: 'expired' } })
    expect(await store.start(early, 'w2')).toEqual({ result: 'running', record: await store.get(early) })
    expect(await store.get(early)).toMatchObject({ runs: 2, worker: 'w2' })
  })

  test('of creates that race with one idempotency key, one makes the job and the others get its id', async () => {
    const idempotency = { key: 'k', fingerprint: 'f', ttlSeconds: 60 }
    const jobs = Array.from({ length: 20 }, () => newJob())
    const results = await Promise.all(jobs.map((job) => store.create(job, { idempotency })))
    const winner = jobs[results.findIndex((r) => r.result === 'created')]
    expect(results.filter((r) => r.result === 'created')).toHaveLength(1)
    const others = results.filter((r) => r.result === 'exists')
    expect(others).toEqual(Array.from({ length: 19 }, () => ({ result: 'exists', jobId: winner?.id, fingerprint: 'f' })))
  })

  test('there are limits on queued jobs for all owners together and for each owner', async () => {
    const owner = 'limited'
    await created({ owner })
    const all = await store.count('', 'queued')
    expect(await store.create(newJob({ owner }), { maxQueuedOfOwner: 1 })).toEqual({ result: 'owner_queue_full', queued: 1 })
    expect(await store.create(newJob({ owner }), { maxQueued: all })).toEqual({ result: 'queue_full', queued: all })
    expect(await store.create(newJob({ owner }), { maxQueued: all + 1, maxQueuedOfOwner: 2 })).toEqual({ result: 'created' })
  })

  test('a list is newest first, of one owner and status, and continues after a cursor', async () => {
    const owner = 'lister'
    const ids = [await created({ owner }), await created({ owner }), await created({ owner })]
    await store.start(ids[0] ?? '', 'w')
    const first = await store.list(owner, { limit: 2 })
    expect(first.map((job) => job.id)).toEqual([ids[2], ids[1]])
    expect((await store.list(owner, { limit: 2, before: first[1]?.id ?? '' })).map((job) => job.id)).toEqual([ids[0]])
    expect((await store.list(owner, { limit: 9, status: 'running' })).map((job) => job.id)).toEqual([ids[0]])
    expect((await store.list('nobody', { limit: 9 })).length).toBe(0)
  })

  test('followers read status, progress, the latest preview of each image and the end in order, starting at any entry', async () => {
    const id = await created()
    await store.start(id, 'w')
    await store.progress(id, 1, 4)
    await store.preview(id, { step: 1, image: 0, dataUrl: 'data:1' })
    await store.preview(id, { step: 2, image: 0, dataUrl: 'data:2' })
    await store.end(id, { status: 'succeeded' })
    await store.progress(id, 3, 4)
    const events = await store.readEvents(id, '0')
    expect(events.map((event) => event.type)).toEqual(['status', 'status', 'progress', 'preview', 'progress', 'done'])
    expect(events[3]).toMatchObject({ data_url: 'data:2', step: 2 })
    // Success implies all steps; the last one had not been reported.
    expect(events[4]).toMatchObject({ step: 4, total: 4 })
    expect((await store.get(id))?.progress).toEqual({ step: 4, total: 4 })
    expect(await store.readEvents(id, events[2]?.id ?? '')).toEqual(events.slice(3))
    expect(await store.readEvents(id, events[5]?.id ?? '')).toEqual([])
    expect(await redis.ttl(store.keys.events(id))).toBeGreaterThan(3000)
  })

  test('a long stream of events loses its oldest entries', async () => {
    const id = await created()
    await store.start(id, 'w')
    for (let step = 1; step <= 1500; step++) await store.progress(id, step, 1500)
    const entries = await redis.xlen(store.keys.events(id))
    expect(entries).toBeGreaterThanOrEqual(1000)
    expect(entries).toBeLessThan(1200)
    expect((await store.readEvents(id, '0')).at(-1)).toMatchObject({ type: 'progress', step: 1500 })
  })

  test('a deleted job leaves no key and no index entry behind', async () => {
    const before = await redis.keys('*')
    const id = await created({ owner: 'gone' })
    await store.start(id, 'w')
    await store.end(id, { status: 'failed' })
    await store.delete(id)
    // What its owner used still counts, without any trace of the job.
    const added = (await redis.keys('*')).filter((key) => !before.includes(key) && !/:usage/.test(key))
    expect(added).toEqual([])
    expect(await store.listEndedBefore(now + 1, 1000)).not.toContain(id)
    expect(await redis.zscore(store.keys.index(''), id)).toBeNull()
  })

  test('a deleted job takes with it the idempotency key that made it, but not one that has since made another job', async () => {
    const [mine, next] = [newJob(), newJob()]
    const idempotency = { key: 'once', fingerprint: 'f', ttlSeconds: 60 }
    await store.create(mine, { idempotency })
    await redis.rpush(store.keys.webhookAttempts(mine.id), '{}')
    await store.delete(mine.id)
    expect((await redis.keys('*')).filter((key) => key.includes(mine.id) || key.includes('once'))).toEqual([])
    await store.create(mine, { idempotency })
    await redis.del(store.keys.idempotency('once'))
    await store.create(next, { idempotency })
    await store.delete(mine.id)
    expect(await redis.get(store.keys.idempotency('once'))).toContain(next.id)
  })

  test('a queued job expires when its time is over and not before, a running one never does', async () => {
    const [late, running, endless] = [await created({ expiresAt: now + 10 }), await created({ expiresAt: now + 10 }), await created()]
    expect(await store.expire(late)).toBe(false)
    await store.start(running, 'w')
    expect(await store.findOverdue([late, running, endless])).toEqual([])
    now += 20
    expect(await store.findOverdue([late, endless])).toEqual([late])
    expect([await store.expire(late), await store.expire(running), await store.expire(endless)]).toEqual([true, false, false])
    expect(await store.get(late)).toMatchObject({ status: 'failed', error: { code: 'expired' } })
  })

  test('a list of jobs made before an instant is oldest first and continues after a cursor', async () => {
    const made = (ms: number) => created({ id: uuidv7({ msecs: ms }), createdAt: ms })
    const ids = [await made(1_000_000), await made(1_000_001), await made(1_000_002)]
    expect(await store.listCreatedBefore('queued', 1_000_002, { limit: 9 })).toEqual(ids.slice(0, 2))
    expect(await store.listCreatedBefore('queued', 1_000_003, { limit: 9, after: ids[0] ?? '' })).toEqual(ids.slice(1))
    expect(await store.listCreatedBefore('running', 1_000_003, { limit: 9 })).toEqual([])
  })
})
