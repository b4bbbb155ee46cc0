import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { createRedis, waitUntilReady } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { toIdempotency } from './idempotency.ts'

const env = { API_KEYS: 'alice-secret,bob-bob-secret', RESULT_TTL: '100' }
let redis: RedisServer
let api: TestApi
let replica: TestApi
beforeAll(async () => {
  redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  api = await startTestApi({ env, redis })
  replica = await startTestApi({ env, redis })
})
afterAll(async () => {
  await Promise.all([api.close(), replica.close()])
  await redis.stop()
})

const submit = (at: TestApi, key: string, body: Record<string, unknown> = {}, caller = 'alice-secret'): Promise<Response> =>
  at.post('/v1/jobs', { prompt: 'p', ...body }, { 'Idempotency-Key': key, 'X-API-Key': caller })

async function read(response: Response): Promise<{ status: number; id: string; seed: number; replayed: string | null }> {
  const job = (await response.json()) as Job
  return { status: response.status, id: job.id, seed: job.input.seed, replayed: response.headers.get('Idempotency-Replayed') }
}

describe('Idempotency-Key', () => {
  test('gives the same job and status again for the same body, even after the job has ended, and says so', async () => {
    const first = await read(await submit(api, 'again', { width: 64, height: 128 }))
    expect(first).toMatchObject({ status: 202, replayed: null })
    expect(await read(await submit(replica, 'again', { height: 128, width: 64 }))).toEqual({ ...first, replayed: 'true' })
    await api.worker.succeed(first.id)
    expect(await read(await submit(api, '"again"', { width: 64, height: 128 }))).toEqual({ ...first, replayed: 'true' })
  })

  test('gives posts that race at two replicas one job and the same status', async () => {
    const before = await api.deps.store.count('', 'queued')
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => submit(i % 2 === 0 ? api : replica, 'race').then(read)))
    expect(new Set(answers.map(({ id, status, seed }) => `${id} ${status} ${seed}`)).size).toBe(1)
    expect(answers.filter(({ replayed }) => replayed === null)).toHaveLength(1)
    expect(await api.deps.store.count('', 'queued')).toBe(before + 1)
    expect(await api.deps.queues.findMissing(['tiny-scenes'], [answers[0]?.id ?? ''])).toEqual([])
  })

  test('is refused with another body', async () => {
    await submit(api, 'mismatch')
    const response = await submit(replica, 'mismatch', { prompt: 'something else' })
    expect(response.status).toBe(422)
    expect(await response.json()).toMatchObject({ code: 'idempotency_mismatch', retryable: false })
  })

  test('belongs to one API key', async () => {
    const [ofAlice, ofBob] = [await read(await submit(api, 'shared')), await read(await submit(api, 'shared', {}, 'bob-bob-secret'))]
    expect(ofBob).toMatchObject({ status: 202, replayed: null })
    expect(ofBob.id).not.toBe(ofAlice.id)
  })

  test('survives a restart of Redis and of the api', async () => {
    const first = await read(await submit(api, 'restart'))
    await redis.restart()
    const restarted = await startTestApi({ env, redis })
    expect(await read(await submit(restarted, 'restart'))).toEqual({ ...first, replayed: 'true' })
    await restarted.close()
    await Promise.all([api, replica].map(async ({ deps }) => await waitUntilReady(deps.redis, 60_000)))
  })

  test('lets a retry enqueue a job whose record was written but that never reached the queue', async () => {
    const first = await read(await submit(api, 'half'))
    expect(await api.deps.queues.remove('tiny-scenes', first.id)).toBe(true)
    expect(await api.deps.queues.findMissing(['tiny-scenes'], [first.id])).toEqual([first.id])
    expect(await read(await submit(replica, 'half'))).toMatchObject({ id: first.id, replayed: 'true' })
    expect(await api.deps.queues.findMissing(['tiny-scenes'], [first.id])).toEqual([])
  })

  test('lets a retry through even if the queue is full by then', async () => {
    const full = await startTestApi({ env: { ...env, MAX_QUEUED_JOBS_PER_KEY: '1', QUEUE_PREFIX: '{full}' }, redis })
    const first = await read(await submit(full, 'full'))
    expect((await submit(full, 'other')).status).toBe(429)
    expect(await read(await submit(full, 'full'))).toEqual({ ...first, replayed: 'true' })
    await full.close()
  })

  test('lives longer than the result', async () => {
    await submit(api, 'life')
    const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
    const names = await connection.keys(api.deps.store.keys.idempotency('*').replaceAll(/[{}]/g, '?'))
    expect(names.length).toBeGreaterThan(0)
    for (const name of names) expect(await connection.ttl(name)).toBeGreaterThan(100)
    expect(names.join()).not.toContain('life')
    connection.disconnect()
  })

  test('is refused by name when it is not a valid key', () => {
    const options = { owner: 'o', formerOwners: [], request: { prompt: 'p' }, resultTtlSeconds: 1 }
    for (const key of ['', '""', 'x'.repeat(256), 'käse', 'a\tb']) {
      expect(() => toIdempotency(key, options)).toThrow(/Idempotency-Key: expected 1 to 255 ASCII characters/)
    }
    expect(toIdempotency('"a\\"b"', options).key).toBe(toIdempotency('a"b', options).key)
  })
})
