import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelRecord } from '@easel/contract'
import { startRedis } from '../test/redis-server.ts'
import { createModelRegistry } from './model-registry.ts'
import { type RedisConnection, createRedis } from './redis.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

const model: ModelRecord = {
  id: 'a/model',
  content_hash: '0',
  runtime: 'r',
  provider: 'cpu',
  scheduler: { class: 'S', config: {} },
  defaults: { width: 64, height: 64, num_inference_steps: 4, guidance_scale: 4, max_sequence_length: 20 },
  limits: { size_multiple: 16, max_side: 64, max_pixels: 4096, max_sequence_length: 20, max_clip_skip: 1 },
  step_ms: 20,
  updated_at: '2026-01-01T00:00:00.000Z',
}

test('the instant at which a model was created is that of its first announcement, whoever announces it again', async () => {
  let now = Date.UTC(2026, 0, 2)
  const registry = createModelRegistry({ redis, prefix: '{test}', now: () => now })
  await registry.announce(model)
  const created = '2026-01-02T00:00:00.000Z'
  now += 5000
  const later = createModelRegistry({ redis, prefix: '{test}', now: () => now })
  await later.announce({ ...model, updated_at: '2026-01-03T00:00:00.000Z' })
  const announced = { ...model, updated_at: '2026-01-03T00:00:00.000Z', created_at: created, announced_at: '2026-01-02T00:00:05.000Z' }
  expect(await later.model('a/model')).toEqual(announced)
  expect(await later.models()).toEqual([announced])
  expect(await later.model('unknown')).toBeUndefined()
})
