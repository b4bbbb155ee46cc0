import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Problem } from '@easel/contract'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi } from '../../test/start-api.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] })
})
afterAll(() => redis.stop())

test('an api whose Redis evicts keys does not start, and says what to change', async () => {
  const start = async (): Promise<string> => {
    try {
      await (await startTestApi({ redis })).close()
      return 'started'
    } catch (error) {
      return String(error)
    }
  }
  // An api starts in any case if Redis does not answer within two seconds, as may happen on a busy machine.
  await expect.poll(start).toMatch(/maxmemory-policy to be noeviction.*allkeys-lru/)
})

test('an api becomes unready when its Redis begins to evict keys, unless that is allowed', async () => {
  const allowing = await startTestApi({ redis, env: { ALLOW_EVICTING_REDIS: 'true' } })
  expect((await allowing.get('/readyz')).status).toBe(200)
  await allowing.deps.redis.config('SET', 'maxmemory-policy', 'noeviction')
  const api = await startTestApi({ redis })
  expect((await api.get('/readyz')).status).toBe(200)
  await api.deps.redis.config('SET', 'maxmemory-policy', 'volatile-ttl')
  const unready = await api.get('/readyz')
  expect([unready.status, ((await unready.json()) as Problem).detail]).toEqual([503, expect.stringContaining('volatile-ttl')])
  expect((await allowing.get('/readyz')).status).toBe(200)
  await Promise.all([api.close(), allowing.close()])
})
