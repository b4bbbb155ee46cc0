import { afterAll, beforeAll, expect, test } from 'vitest'
import { createKeys, maxWebhookAttempts } from '@easel/contract'
import type { WebhookAttempt } from '@easel/contract'
import { createRedis, waitUntilReady } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { addAttempt, listAttempts } from './webhook-attempts.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  await waitUntilReady(redis, 60_000)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

test('the latest attempts of a job are kept in order, up to a limit, and expire in the end', async () => {
  const keys = createKeys('{test}')
  const attempt = (n: number): WebhookAttempt => ({
    message_id: 'msg_1_completed',
    event: 'completed',
    at: new Date(n).toISOString(),
    duration_ms: n,
    status: 500,
    ok: false,
    error: 'status 500',
  })
  for (let n = 0; n < maxWebhookAttempts + 2; n++) await addAttempt(redis, keys, '1', attempt(n))
  const kept = await listAttempts(redis, keys, '1')
  expect(kept).toEqual(Array.from({ length: maxWebhookAttempts }, (_, i) => attempt(i + 2)))
  expect(await redis.ttl(keys.webhookAttempts('1'))).toBeGreaterThan(86_400)
  expect(await listAttempts(redis, keys, '2')).toEqual([])
})
