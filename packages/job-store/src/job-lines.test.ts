import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startRedis } from '../test/redis-server.ts'
import { benchModel, openShareBench } from '../test/share-bench.ts'
import type { ShareBench } from '../test/share-bench.ts'
import { toOrder } from './job-lines.ts'
import { toQueuePriority } from './queue-priority.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let bench: ShareBench
let prefixes = 0
beforeAll(async () => {
  server = await startRedis()
})
beforeEach(() => {
  bench = openShareBench(server.url, `{test${prefixes++}}`)
})
afterEach(() => bench.close())
afterAll(() => server.stop())

/** The owners of the next jobs, which are taken but not ended. */
async function takeOwners(count: number): Promise<string> {
  let owners = ''
  for (let i = 0; i < count; i++) owners += (await bench.take())?.owner ?? '-'
  return owners
}
async function submitMany(owner: string, count: number, job: Parameters<ShareBench['submit']>[1] = {}): Promise<string[]> {
  const ids: string[] = []
  for (let i = 0; i < count; i++) ids.push(await bench.submit(owner, job))
  return ids
}

describe('whose turn it is', () => {
  test('depends on what jobs cost, not on how many there are', async () => {
    await submitMany('a', 4, { costMs: 300 })
    await submitMany('b', 8, { costMs: 100 })
    expect(await takeOwners(8)).toBe('abbbabbb')
  })

  test('depends on the weights of owners', async () => {
    await submitMany('a', 3, { weight: 1 })
    await submitMany('b', 9, { weight: 3 })
    expect(await takeOwners(8)).toBe('abbbabbb')
  })

  test('an owner who was away has neither credit nor debt', async () => {
    await submitMany('a', 6)
    expect(await takeOwners(3)).toBe('aaa')
    await submitMany('b', 4)
    expect(await takeOwners(6)).toBe('bababa')
  })

  test('an owner whose last job is still running gains no credit while others have their turns', async () => {
    await submitMany('a', 1)
    expect(await takeOwners(1)).toBe('a')
    await submitMany('b', 9, { costMs: 90 })
    expect(await takeOwners(4)).toBe('bbbb')
    await submitMany('a', 4)
    expect(await takeOwners(4)).toBe('abab')
  })

  test('an owner who filled an idle machine owes nothing once it is idle again', async () => {
    for (const id of await submitMany('a', 5, { costMs: 1000 })) {
      await bench.take()
      await bench.finish(id, 1000)
    }
    await submitMany('a', 2)
    await submitMany('b', 2)
    expect(await takeOwners(4)).toBe('abab')
  })

  test('the time that a job took takes the place of its estimated cost', async () => {
    await submitMany('a', 3)
    await submitMany('b', 9)
    expect(await takeOwners(2)).toBe('ab')
    const [first] = (await bench.store.list('a', { status: 'running', limit: 1 })).map(({ id }) => id)
    // That is three times the estimate, so b goes first until it has had as much.
    await bench.finish(first ?? '', 300)
    expect(await takeOwners(4)).toBe('bbab')
  })

  test('a job that never ran costs nothing, whether it was canceled while it waited or after it was chosen', async () => {
    const [canceled, ...others] = await submitMany('a', 4)
    await submitMany('b', 4)
    await bench.store.requestCancel(canceled ?? '')
    expect(await bench.lines.choose(benchModel, { running: new Map(), places: 9 })).toMatchObject({ result: 'chosen', id: others[0] })
    await bench.store.requestCancel(others[0] ?? '')
    await bench.queues.remove(benchModel, others[0] ?? '')
    expect(await takeOwners(4)).toBe('abab')
  })

  test('a job that fails halfway costs the part that it ran', async () => {
    const [first] = await submitMany('a', 5, { costMs: 400 })
    await submitMany('b', 5, { costMs: 100 })
    expect(await takeOwners(1)).toBe('a')
    await bench.store.progress(first ?? '', 5, 10)
    await bench.store.end(first ?? '', { status: 'failed' })
    expect(await takeOwners(3)).toBe('bba')
    expect(await bench.redis.hget(bench.store.keys.usage('a'), 'kept_gpu_ms')).toBe('200')
  })

  test('a job that is deleted while it runs costs the part that it ran', async () => {
    const [first] = await submitMany('a', 5, { costMs: 400 })
    await submitMany('b', 5, { costMs: 100 })
    expect(await takeOwners(1)).toBe('a')
    await bench.store.progress(first ?? '', 5, 10)
    await bench.store.delete(first ?? '')
    expect(await takeOwners(3)).toBe('bba')
  })

  test('priority and age decide among the jobs of one owner, and never overtake another owner', async () => {
    const [plain] = await submitMany('a', 1)
    bench.now += 1000
    const [urgent] = await submitMany('a', 1, { priority: 5 })
    const [other] = await submitMany('b', 1)
    const taken = [await bench.take(), await bench.take(), await bench.take()].map((job) => job?.id)
    expect(taken).toEqual([urgent, other, plain])
    const [old] = await submitMany('a', 1, { priority: -1 })
    bench.now += 700_000
    const [fresh] = await submitMany('a', 1)
    expect([(await bench.take())?.id, (await bench.take())?.id]).toEqual([old, fresh])
  })

  test('a job that was handed over continues before all others and is charged once', async () => {
    await submitMany('a', 2)
    await submitMany('b', 3)
    const first = await bench.take()
    await bench.putBack(first as { id: string; token: string })
    expect((await bench.take())?.id).toBe(first?.id)
    expect(await takeOwners(3)).toBe('bab')
  })

  test('a job that BullMQ has moved back to its wait list goes first if its owner has a place', async () => {
    await submitMany('a', 2)
    const stalled = await bench.take()
    const queue = bench.queues.of(benchModel)
    await bench.redis
      .multi()
      .lrem(queue.toKey('active'), 1, stalled?.id ?? '')
      .rpush(queue.toKey('wait'), stalled?.id ?? '')
      .exec()
    await bench.redis.del(`${queue.toKey(stalled?.id ?? '')}:lock`)
    await submitMany('b', 1)
    expect((await bench.take({ places: 1, running: new Map([['a', 1]]) }))?.owner).toBe('b')
    expect((await bench.take())?.id).toBe(stalled?.id)
  })
})

test('the order of turns survives a Redis that is killed and started again from its append-only file', async () => {
  // Append-only, as docs/redis.md demands, and here every change is on the disk before it is answered.
  const durable = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  const own = openShareBench(durable.url, '{durable}')
  try {
    const submit = async (owner: string, count: number, job: Parameters<ShareBench['submit']>[1]): Promise<void> => {
      for (let i = 0; i < count; i++) await own.submit(owner, job)
    }
    const take = async (count: number): Promise<string> => {
      let owners = ''
      for (let i = 0; i < count; i++) owners += (await own.take())?.owner ?? '-'
      return owners
    }
    await submit('a', 4, { costMs: 300 })
    await submit('b', 8, { costMs: 100 })
    await submit('c', 4, { costMs: 100, weight: 2 })
    expect(await take(4)).toBe('abcc')
    // Chosen and not taken yet.
    expect(await own.lines.choose(benchModel, { running: new Map(), places: 99 })).toMatchObject({ result: 'chosen', owner: 'b' })
    const waiting = await own.lines.read(benchModel)
    await durable.kill()
    await durable.restart()
    await expect.poll(async () => await own.redis.ping().catch(() => ''), { timeout: 60_000 }).toBe('PONG')
    expect(await own.lines.read(benchModel)).toEqual(waiting)
    const told = toOrder(waiting)
    const taken: string[] = []
    for (let job = await own.take(); job !== undefined; job = await own.take()) taken.push(job.id)
    expect(told).toHaveLength(12)
    expect(taken).toEqual(told)
  } finally {
    await own.close()
    await durable.stop()
  }
})

test('a job that was queued without a priority waits for its turn like any other', async () => {
  const [first] = await submitMany('a', 1)
  const record = bench.newRecord('a')
  await bench.create(record)
  await bench.queues.add(benchModel, record.id)
  await submitMany('b', 1)
  expect((await bench.take())?.id).toBe(first)
  expect((await bench.take())?.owner).toBe('b')
  expect((await bench.take())?.id).toBe(record.id)
})

describe('places of a worker', () => {
  const running = (counts: Record<string, number>) => ({ running: new Map(Object.entries(counts)), places: 2 })

  test('are for any owner, and beyond them there is room for owners with nothing running there', async () => {
    await submitMany('a', 5)
    expect((await bench.take(running({ a: 1 })))?.owner).toBe('a')
    expect(await bench.lines.choose(benchModel, running({ a: 2 }))).toEqual({ result: 'blocked' })
    await submitMany('b', 2)
    expect((await bench.take(running({ a: 2 })))?.owner).toBe('b')
    expect(await bench.lines.choose(benchModel, running({ a: 2, b: 1 }))).toEqual({ result: 'blocked' })
    await submitMany('c', 1)
    await submitMany('d', 1)
    expect((await bench.take(running({ a: 2, b: 1 })))?.owner).toBe('c')
    expect(await bench.lines.choose(benchModel, running({ a: 2, b: 1, c: 1 }))).toEqual({ result: 'blocked' })
    expect((await bench.take(running({ a: 1 })))?.owner).toBe('d')
  })

  test('a choice tells whether another job may run beside the chosen one', async () => {
    const choose = async (counts: Record<string, number>): Promise<string> => {
      const choice = await bench.lines.choose(benchModel, running(counts))
      if (choice.result !== 'chosen') return choice.result
      await bench.queues.remove(benchModel, choice.id)
      return `${choice.owner}${choice.more ? ' and more' : ''}`
    }
    await submitMany('a', 6)
    expect(await choose({})).toBe('a and more')
    expect(await choose({ a: 1 })).toBe('a')
    await submitMany('b', 1)
    expect(await choose({ a: 1 })).toBe('b')
    await submitMany('c', 2)
    expect(await choose({ a: 1 })).toBe('c')
    await submitMany('d', 1)
    expect(await choose({ a: 1 })).toBe('d and more')
    expect(await choose({ a: 2, d: 1 })).toBe('c')
    expect(await choose({ a: 2 })).toBe('blocked')
    for (let i = 0; i < 3; i++) expect(await choose({})).toBe('a and more')
    expect([await choose({}), await choose({})]).toEqual(['a', 'none'])
    // A job without a place in the share counts too.
    const old = bench.newRecord('a', { costMs: undefined })
    await bench.create(old)
    await bench.queues.add(benchModel, old.id, { priority: toQueuePriority(old) })
    await submitMany('a', 1)
    expect([await choose({}), await choose({})]).toEqual(['a and more', 'unlisted'])
  })

  test('a choice passes over the jobs of earlier choices, which other commands are taking', async () => {
    const [a1] = await submitMany('a', 3)
    const [b1] = await submitMany('b', 2)
    const choose = async (taking: number) => await bench.lines.choose(benchModel, { running: new Map(), places: 9, taking })
    expect(await choose(0)).toMatchObject({ id: a1, more: true })
    expect(await choose(1)).toMatchObject({ id: b1, more: true })
    // BullMQ gives them in this order, not in its own, where all of a's jobs are before b's.
    const order = (await bench.lines.read(benchModel)).front
    expect(order).toEqual([a1, b1])
    // Nobody took them, because the worker died: they are still the next.
    expect(await choose(0)).toMatchObject({ id: a1 })
    expect((await bench.take())?.id).toBe(a1)
    expect((await bench.take())?.id).toBe(b1)
  })

  test('a job that was put back is next, even while others are being taken', async () => {
    await submitMany('a', 4)
    const first = await bench.take()
    await bench.putBack(first as NonNullable<typeof first>)
    const second = await bench.lines.choose(benchModel, { running: new Map(), places: 9, taking: 1 })
    expect(second).toMatchObject({ result: 'chosen', id: first?.id })
    expect((await bench.take())?.id).toBe(first?.id)
  })

  test('of one owner can be limited over all workers: its jobs wait and those of others are taken', async () => {
    await submitMany('a', 4)
    const limited = { maxRunningOfOwner: 2 }
    const first = await bench.take(limited)
    await bench.take(limited)
    expect(await bench.lines.choose(benchModel, { running: new Map(), places: 9, ...limited })).toEqual({ result: 'blocked' })
    await submitMany('b', 1)
    expect((await bench.take(limited))?.owner).toBe('b')
    await bench.finish(first?.id ?? '', 100)
    expect((await bench.take(limited))?.owner).toBe('a')
  })

  test('of one owner count as taken as soon as its jobs are chosen, before they begin', async () => {
    const ids = await submitMany('a', 3)
    const choose = () => bench.lines.choose(benchModel, { running: new Map(), places: 9, maxRunningOfOwner: 2 })
    for (const id of ids.slice(0, 2)) {
      expect(await choose()).toEqual({ result: 'chosen', id, owner: 'a', more: id === ids[0] })
      // A worker has got it from BullMQ and has not yet said that it begins.
      await bench.queues.remove(benchModel, id)
    }
    expect(await choose()).toEqual({ result: 'blocked' })
    await bench.store.start(ids[0] ?? '', 'w')
    expect(await choose()).toEqual({ result: 'blocked' })
    await bench.store.end(ids[0] ?? '', { status: 'succeeded', output: { images: [] } })
    expect(await choose()).toEqual({ result: 'chosen', id: ids[2], owner: 'a', more: false })
  })
})

test('the order that is reported is the order in which jobs are taken', async () => {
  let seed = 5
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
  for (let i = 0; i < 60; i++) {
    const job = { costMs: 10 + random(500), priority: random(5) - 2, weight: random(4) === 0 ? 2 : 1 }
    await bench.submit(`owner${random(5)}`, job)
    bench.now += random(400_000)
  }
  for (let i = 0; i < 5; i++) await bench.take()
  const told = toOrder(await bench.lines.read(benchModel))
  const taken: string[] = []
  for (let job = await bench.take(); job !== undefined; job = await bench.take()) taken.push(job.id)
  expect(told).toHaveLength(55)
  expect(taken).toEqual(told)
})

test('jobs from before there were shares are taken in BullMQ’s order until they are enlisted', async () => {
  const cost = { costMs: undefined }
  const old = [bench.newRecord('a', { priority: 2, ...cost }), bench.newRecord('b', cost), bench.newRecord('a', cost)]
  for (const record of old) {
    await bench.create(record)
    await bench.queues.add(benchModel, record.id, { priority: toQueuePriority(record) })
  }
  const ids = old.map(({ id }) => id)
  expect(await bench.store.findUnlisted(ids)).toEqual(ids)
  expect((await bench.take())?.id).toBe(ids[0])
  for (const id of ids) await bench.store.enlist(id, { costMs: 100, weight: 1 })
  expect(await bench.store.findUnlisted(ids)).toEqual([ids[0]])
  // Once is enough.
  await bench.store.enlist(ids[2] ?? '', { costMs: 900, weight: 1 })
  expect(await bench.redis.hget(bench.store.keys.usage('a'), 'queued_ms')).toBe('100')
  expect(toOrder(await bench.lines.read(benchModel))).toEqual([ids[2], ids[1]])
  expect(await takeOwners(3)).toBe('ab-')
})

test('a job that was taken by a worker without shares leaves the share', async () => {
  const [taken] = await submitMany('a', 1)
  await bench.redis.hset(bench.store.keys.job(taken ?? ''), 'status', 'running')
  await bench.queues.remove(benchModel, taken ?? '')
  await submitMany('a', 1)
  expect(await takeOwners(2)).toBe('a-')
  expect(toOrder(await bench.lines.read(benchModel))).toEqual([])
  expect(await bench.redis.hget(bench.store.keys.usage('a'), 'queued_ms')).toBe('0')
})

test('a job on its way into the queue does not hold up those behind it', async () => {
  await bench.create(bench.newRecord('a'))
  bench.now += 10
  await submitMany('a', 1)
  expect(await takeOwners(2)).toBe('a-')
})

test('an owner who gets a new name keeps the turn of its waiting jobs', async () => {
  await submitMany('a', 3)
  await submitMany('old', 3)
  await bench.store.adopt('old', 'name')
  expect((await bench.lines.read(benchModel)).lines.map(({ owner, jobs }) => [owner, jobs.length])).toEqual([
    ['a', 3],
    ['name', 3],
  ])
  expect(await takeOwners(3)).toBe('anamea')
  expect(await bench.redis.hgetall(bench.store.keys.usage('old'))).toMatchObject({ queued_ms: '0' })
})

test('an owner who gets a new name takes the usage of its jobs with it', async () => {
  const [id = ''] = await submitMany('old', 1)
  await bench.take()
  await bench.finish(id, 140)
  await bench.store.adopt('old', 'name')
  const [old, name] = await Promise.all(['old', 'name'].map((owner) => bench.redis.hgetall(bench.store.keys.usage(owner))))
  expect([old, name]).toMatchObject([
    { kept_gpu_ms: '0', kept_jobs: '0' },
    { kept_gpu_ms: '140', kept_jobs: '1' },
  ])
})

test('when all jobs have ended, nothing is left of the share, and what they used is counted', async () => {
  await submitMany('a', 2)
  const first = await bench.take()
  expect(await bench.redis.hget(bench.store.keys.usage('a'), 'queued_ms')).toBe('100')
  await bench.finish(first?.id ?? '', 140)
  const [waiting] = (await bench.store.list('a', { status: 'queued', limit: 1 })).map(({ id }) => id)
  await bench.store.delete(waiting ?? '')
  await bench.queues.remove(benchModel, waiting ?? '')
  const left = await bench.redis.keys(`${bench.store.keys.share(benchModel)}*`)
  expect(left).toEqual([])
  expect(await bench.redis.hgetall(bench.store.keys.usage('a'))).toEqual({ queued_ms: '0', kept_gpu_ms: '140', kept_jobs: '1' })
  expect(await bench.redis.zscore(bench.store.keys.usageOwners, 'a')).toBe('140')
})

test('a job beyond the limit of queued work of its owner is refused, but a first job is always accepted', async () => {
  const limit = { maxQueuedMsOfOwner: 250 }
  expect(await bench.create(bench.newRecord('a', { costMs: 300 }), limit)).toEqual({ result: 'created' })
  expect(await bench.create(bench.newRecord('a', { costMs: 1 }), limit)).toEqual({ result: 'owner_work_full', queuedMs: 300 })
  await submitMany('b', 2)
  expect(await bench.create(bench.newRecord('b', { costMs: 51 }), limit)).toEqual({ result: 'owner_work_full', queuedMs: 200 })
  expect(await bench.create(bench.newRecord('b', { costMs: 50 }), limit)).toEqual({ result: 'created' })
})
