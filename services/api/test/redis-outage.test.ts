import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Problem } from '@easel/contract'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

describe('while Redis is away', () => {
  let redis: RedisServer
  let api: TestApi
  beforeAll(async () => {
    redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
    api = await startTestApi({ redis })
  })
  afterAll(async () => {
    await api.close()
    await redis.stop()
  })
  afterEach(async () => {
    await redis.restart()
    await untilOk(api, '/readyz')
  })

  test('everything that needs it answers 503 with Retry-After, and everything else still works', async () => {
    const { id } = await api.submit()
    await api.worker.succeed(id)
    await redis.kill()
    const requests = [
      () => api.post('/v1/jobs', { prompt: 'a' }),
      () => api.get(`/v1/jobs/${id}`),
      () => api.post(`/v1/jobs/${id}/cancel`),
      () => api.get('/v1/capabilities'),
      () => api.get('/readyz'),
      () => api.get('/api/status'),
      () => api.post('/api/diffusers/inference', { prompt: 'a' }),
    ]
    for (const response of await Promise.all(requests.map((request) => request()))) {
      expect([response.url, response.status]).toEqual([response.url, 503])
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(((await response.json()) as Problem).code).toBe('queue_unavailable')
    }
    expect((await api.get('/livez')).status).toBe(200)
    expect((await api.get('/')).status).toBe(200)
    expect((await api.get(`/images/${id}-0.png`)).status).toBe(200)
    expect((await api.post('/v1/jobs', { prompt: '' })).status).toBe(422)
    await redis.restart()
    await untilOk(api, `/v1/jobs/${id}`)
    await api.submit()
  })

  test('a Redis that freezes in the middle of a request counts as away too', async () => {
    await api.submit()
    redis.pause()
    const response = await api.post('/v1/jobs', { prompt: 'a' })
    redis.resume()
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  test('a record whose id could not be queued is removed', async () => {
    const before = await api.worker.store.count('', 'queued')
    const { queues } = api.deps
    // The queue's own key gets a type that it cannot work with, so Redis answers but the queue does not.
    const queue = queues.of('tiny-scenes')
    const key = queue.toKey('prioritized')
    await api.deps.redis.rename(key, `${key}-aside`)
    await api.deps.redis.set(key, 'x')
    const response = await api.post('/v1/jobs', { prompt: 'a' })
    await api.deps.redis.rename(`${key}-aside`, key)
    expect([response.status, ((await response.json()) as Problem).code]).toEqual([503, 'queue_unavailable'])
    expect(await api.worker.store.count('', 'queued')).toBe(before)
    await api.submit()
  })
})

test('an api whose Redis is gone still closes', async () => {
  const redis = await startRedis()
  const api = await startTestApi({ redis })
  await api.submit()
  await redis.kill()
  await expect(api.close()).resolves.toBeUndefined()
  await redis.stop()
})

async function untilOk(api: TestApi, path: string): Promise<void> {
  await vi.waitFor(
    async () => {
      const { status } = await api.get(path)
      if (status !== 200) throw new Error(`Expected 200 from ${path}, got ${status}`)
    },
    { timeout: 60_000 },
  )
}
