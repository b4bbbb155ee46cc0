import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Capabilities, Problem } from '@easel/contract'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ model: null })
})
afterAll(async () => {
  await api.close()
})

test('before any worker has announced a model, jobs get 503 no_worker unless something else is wrong with them', async () => {
  for (const [path, body] of [
    ['/v1/jobs', { prompt: 'a' }],
    ['/v1/jobs', { prompt: 'a', model: 'other' }],
    ['/api/diffusers/inference', { prompt: 'a' }],
  ] as const) {
    const response = await api.post(path, body)
    expect([response.status, ((await response.json()) as Problem).code]).toEqual([503, 'no_worker'])
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  }
  for (const body of [{ prompt: '' }, { prompt: 'a', num_inference_steps: 3, sigmas: [1] }, { prompt: 'x'.repeat(4001) }]) {
    expect((await api.post('/v1/jobs', body)).status).toBe(422)
  }
  expect((await api.get('/readyz')).status).toBe(503)
  expect((await api.get('/livez')).status).toBe(200)
  expect(await (await api.get('/v1/capabilities')).json()).toEqual({ models: [] })
})

test('once a model has been announced its jobs are accepted even if no worker is alive, and its workers are counted', async () => {
  await api.worker.registry.announce({ ...tinyScenes, id: 'other' })
  const response = await api.post('/v1/jobs', { prompt: 'a' })
  expect([response.status, ((await response.json()) as Problem).detail]).toEqual([503, expect.stringContaining('other')])
  await api.worker.registry.announce(tinyScenes)
  expect((await api.get('/readyz')).status).toBe(200)
  await api.submit()
  expect((await api.submit({ model: 'other' })).input.model).toBe('other')
  const heartbeat = { model: 'tiny-scenes', concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1, ready: true }
  await api.worker.registry.heartbeat({ id: 'w1', ...heartbeat })
  await api.worker.registry.heartbeat({ id: 'w2', ...heartbeat })
  const { models } = (await (await api.get('/v1/capabilities')).json()) as Capabilities
  expect(models.map(({ id, workers }) => [id, workers])).toEqual([
    ['other', 0],
    ['tiny-scenes', 2],
  ])
})
