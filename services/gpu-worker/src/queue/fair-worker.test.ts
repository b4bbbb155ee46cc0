/** FairWorker with a real Redis, queue and share. A job does nothing but wait until the test lets it end. */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { generateQueueName } from '@easel/contract'
import { createJobLines, createJobStore, createRedis, JobQueues, toQueuePriority } from '@easel/job-store'
import type { Choice, GenerateJobData, JobLines, RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { FairWorker } from './fair-worker.ts'

const model = 'a/model'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let prefix = ''
let prefixes = 0
let jobs = 0
const closers: (() => Promise<void>)[] = []
beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
})
beforeEach(() => {
  prefix = `{test${prefixes++}}`
})
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

interface OpenOptions {
  places: number
  maxRunningOfOwner?: number
  /** How long a job runs, in ms. Default: until `end` is called. */
  jobMs?: number
  /** Called in place of the choice, which it may make. Default: makes it. */
  choose?: (choose: () => Promise<Choice>) => Promise<Choice>
}

/** A worker that takes no job before `worker.run()`. */
function openWorker({ places, maxRunningOfOwner = 0, jobMs, choose = (make) => make() }: OpenOptions) {
  const store = createJobStore({ redis, prefix })
  const lines: JobLines = createJobLines({ redis, prefix })
  const gates = new Map<string, () => void>()
  /** The owners of the jobs that run, by id. */
  const running = new Map<string, string>()
  const [started, errors]: [string[], Error[]] = [[], []]
  let [mostOfOwner, readOwners] = [0, 0]
  const worker = new FairWorker(
    generateQueueName(model),
    async ({ data: { id } }: { data: GenerateJobData }) => {
      const begun = await store.start(id, 'w')
      if (begun.result !== 'running') return begun.result
      running.set(id, begun.record.owner)
      started.push(begun.record.owner)
      mostOfOwner = Math.max(mostOfOwner, [...running.values()].filter((owner) => owner === begun.record.owner).length)
      await (jobMs === undefined ? new Promise<void>((resolve) => gates.set(id, resolve)) : sleep(jobMs))
      await store.end(id, { status: 'succeeded', output: { images: [] }, gpuMs: 100 })
      running.delete(id)
      return 'succeeded'
    },
    {
      connection: redis,
      prefix,
      skipVersionCheck: true,
      places,
      choose: (counts, taking) => choose(() => lines.choose(model, { running: counts, places, taking, maxRunningOfOwner })),
      ownersAreLimited: maxRunningOfOwner > 0,
      readOwner: async (id) => {
        readOwners++
        return (await store.get(id))?.owner
      },
    },
  )
  worker.on('error', (error) => errors.push(error))
  closers.push(() => worker.close(true))
  return {
    worker,
    started,
    errors,
    running,
    mostOfOwner: () => mostOfOwner,
    readOwners: () => readOwners,
    /** Ends a running job of the owner, and waits until its record says so. */
    end: async (owner: string): Promise<void> => {
      const id = [...running].find(([, of]) => of === owner)?.[0] ?? ''
      await expect.poll(() => gates.has(id)).toBe(true)
      gates.get(id)?.()
      await expect.poll(() => running.has(id)).toBe(false)
    },
  }
}

/** Queues jobs; the same queue for all workers of a test. */
async function submit(owners: string, { costs = {} }: { costs?: Record<string, number> } = {}): Promise<string[]> {
  const store = createJobStore({ redis, prefix })
  const queues = new JobQueues({ redis, prefix, onError: () => {} })
  const ids: string[] = []
  for (const owner of owners) {
    const size = { width: 64, height: 64, num_inference_steps: 10, guidance_scale: 4, num_images_per_prompt: 1 }
    const input = { model, prompt: 'p', negative_prompt: '', ...size, seed: 7, max_sequence_length: 20, output_format: 'png' as const }
    const record = {
      id: `0197a1b2-c3d4-7abc-8def-${(++jobs).toString(16).padStart(12, '0')}`,
      owner,
      createdAt: Date.now(),
      input,
      priority: 0,
      costMs: costs[owner] ?? 100,
      weight: 1,
    }
    await store.create(record)
    await queues.add(model, record.id, { priority: toQueuePriority(record) })
    ids.push(record.id)
  }
  await queues.close()
  return ids
}

const countOf = (status: 'queued' | 'succeeded'): Promise<number> => createJobStore({ redis, prefix }).count('', status)
const countScripts = async (): Promise<number> =>
  Number(/cmdstat_evalsha:calls=(\d+)/.exec(await (redis as { info(section: string): Promise<string> }).info('commandstats'))?.[1] ?? 0)

test('a job costs four scripts: its choice, its start, its end in the record, and its end in BullMQ, which takes the next job', async () => {
  const count = 40
  await submit('a'.repeat(count))
  const { worker, readOwners } = openWorker({ places: 8, jobMs: 1 })
  const before = await countScripts()
  void worker.run()
  await expect.poll(() => countOf('succeeded')).toBe(count)
  // A few more fill the places and find that nothing is left, and the worker looks by itself every second.
  expect((await countScripts()) - before).toBeLessThan(4 * count + 30)
  // Jobs end at the same time here, so many arrive for the choice of another one; their owners are known all the same.
  expect(readOwners()).toBe(0)
})

test('a new job costs nothing while its owner has no place here', async () => {
  await submit('aa')
  const { worker, started } = openWorker({ places: 2 })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('aa')
  await submit('ab')
  const before = await countScripts()
  for (let i = 0; i < 50; i++) {
    worker.wake('a')
    await sleep(1)
  }
  // The worker looks by itself now and then.
  expect((await countScripts()) - before).toBeLessThan(10)
  worker.wake('b')
  await expect.poll(() => started.join('')).toBe('aab')
})

test('a newcomer who arrives while a job is being taken gets a place once that job has been taken', async () => {
  await submit('a')
  let choices = 0
  const gate = Promise.withResolvers<void>()
  const { worker, started } = openWorker({
    places: 1,
    choose: async (make) => {
      const choice = await make()
      choices++
      await gate.promise
      return choice
    },
  })
  void worker.run()
  await expect.poll(() => choices).toBe(1)
  await submit('b')
  worker.wake('b')
  // Nothing but this wake-up makes it look again. `expect.poll` would let the fake timers advance.
  vi.useFakeTimers({ toFake: ['setTimeout'], now: 0 })
  onTestFinished(() => void vi.useRealTimers())
  gate.resolve()
  while (started.length < 2) await nextTurn()
  expect(started.join('')).toBe('ab')
})

test('the job that is taken when another one ends is the one whose turn it is', async () => {
  await submit('aabbbb', { costs: { a: 300, b: 100 } })
  const { worker, started, end, running } = openWorker({ places: 2 })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('ab')
  for (const order of ['abb', 'abbb']) {
    await end('b')
    await expect.poll(() => started.join('')).toBe(order)
    expect(running.size).toBe(2)
  }
  // Both have had the same now, so it is a's turn, and then b has nothing running here and gets a place of its own.
  await end('b')
  await expect.poll(() => started.join('')).toBe('abbbab')
})

test('each of several jobs that are taken at the same moment is the one whose turn it is', async () => {
  // BullMQ's own order is that in which they came.
  await submit('a'.repeat(8) + 'b'.repeat(8))
  const { worker, started, end } = openWorker({ places: 2 })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('ab')
  for (let count = 4; count <= 16; count += 2) {
    await Promise.all([end('a'), end('b')])
    await expect.poll(() => started.length).toBe(count)
    expect(started.slice(-2).toSorted().join('')).toBe('ab')
  }
})

test('a newcomer gets a place beyond those that are taken, and nobody else gets that place', async () => {
  await submit('aaaaa')
  const { worker, started, end } = openWorker({ places: 2 })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('aa')
  await submit('bb')
  worker.wake()
  await expect.poll(() => started.join('')).toBe('aab')
  // As many jobs as places are left, and each owner who waits has one of them.
  await end('a')
  const queue = new Queue(generateQueueName(model), { connection: redis, prefix })
  await expect.poll(async () => (await queue.getJobCounts('completed')).completed).toBe(1)
  // No other job runs in its place.
  expect(await queue.getJobCounts('completed', 'active')).toEqual({ completed: 1, active: 2 })
  await queue.close()
  // Both have had the same, so it is a's turn, and then a place is open to a newcomer again.
  await end('b')
  await expect.poll(() => started.join('')).toBe('aabab')
})

test('an owner at its limit waits although places are free, and no job is lost or runs twice', async () => {
  await submit('aaaaabbb')
  const one = openWorker({ places: 3, maxRunningOfOwner: 1, jobMs: 3 })
  void one.worker.run()
  await expect.poll(() => countOf('succeeded')).toBe(8)
  expect(one.mostOfOwner()).toBe(1)
  expect(one.started.toSorted().join('')).toBe('aaaaabbb')
})

test('with two workers on one queue each job runs once, and no owner has more jobs on a worker than it has places', async () => {
  await submit('abc'.repeat(30) + 'a'.repeat(30))
  const workers = [openWorker({ places: 2, jobMs: 2 }), openWorker({ places: 2, jobMs: 3 })]
  for (const { worker } of workers) void worker.run()
  await expect.poll(() => countOf('succeeded')).toBe(120)
  expect(workers.flatMap(({ started }) => started)).toHaveLength(120)
  for (const { mostOfOwner, errors } of workers) {
    expect(mostOfOwner()).toBeLessThanOrEqual(2)
    expect(errors).toEqual([])
  }
})

test('a choice that fails is reported, and the job that is taken nevertheless runs', async () => {
  await submit('aaaaaa')
  let choices = 0
  const { worker, started, errors } = openWorker({
    places: 2,
    jobMs: 1,
    choose: async (make) => {
      if (++choices % 2 === 0) throw new Error('no choice')
      return await make()
    },
  })
  void worker.run()
  await expect.poll(() => countOf('succeeded')).toBe(6)
  expect(started.join('')).toBe('aaaaaa')
  expect(new Set(errors.map(({ message }) => message))).toEqual(new Set(['no choice']))
})

test('a job that another worker has put in front and that has no place here goes back, and both run in the end', async () => {
  const [, second = ''] = await submit('aa')
  let isMeddling = true
  const { worker, started, end, mostOfOwner } = openWorker({
    places: 1,
    choose: async (make) => {
      const choice = await make()
      if (isMeddling && choice.result === 'chosen' && choice.owner === 'b') {
        isMeddling = false
        await redis.zadd(`${prefix}:${generateQueueName(model)}:prioritized`, 0, second)
      }
      return choice
    },
  })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('a')
  await submit('b')
  worker.wake()
  await expect.poll(() => started.join('')).toBe('ab')
  expect(isMeddling).toBe(false)
  await end('b')
  await end('a')
  await expect.poll(() => started.join('')).toBe('aba')
  expect(mostOfOwner()).toBe(1)
})

test('a paused worker takes no other job when one ends', async () => {
  await submit('aaa')
  const { worker, started, end, running } = openWorker({ places: 2 })
  void worker.run()
  await expect.poll(() => started.join('')).toBe('aa')
  const paused = worker.pause()
  await end('a')
  await end('a')
  await paused
  expect([started.join(''), running.size, await countOf('queued')]).toEqual(['aa', 0, 1])
})
