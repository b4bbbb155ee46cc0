import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

const dayMs = 86_400_000

let api: TestApi
beforeAll(async () => {
  // The usage of today starts from zero at midnight, so the test does not run across it.
  const leftMs = dayMs - (Date.now() % dayMs)
  if (leftMs < 60_000) await sleep(leftMs)
  const env = { API_KEYS: 'ann*2:ann-ann-secret,ben:ben-ben-secret' }
  api = await startTestApi({ env, model: { ...tinyScenes, step_ms: 1000 } })
})
afterAll(() => api.close())

const asOwner = (name: string) => ({ 'X-API-Key': `${name}-${name}-secret` })
const usageOf = async (name: string): Promise<unknown> => await (await api.get('/v1/usage', { headers: asOwner(name) })).json()
const submit = async (body: object): Promise<string> =>
  ((await (await api.post('/v1/jobs', { prompt: 'p', ...body }, asOwner('ann'))).json()) as { id: string }).id
const nothing = { gpu_seconds: 0, jobs: 0, pictures: 0, bytes: 0 }
const inputs = { pictures: 0, bytes: 0 }

test('an owner, and nobody else, is told what was used today and what is kept', async () => {
  const id = await submit({ num_images_per_prompt: 2 })
  await submit({ num_inference_steps: 7 })
  expect(await usageOf('ann')).toEqual({ owner: 'ann', weight: 2, today: nothing, retained: nothing, inputs, queued: { gpu_seconds: 47 } })

  await api.worker.store.start(id, 'w')
  const pictures = [0, 1].map((n) => ({
    key: `images/${id}-${n}.png`,
    width: 1,
    height: 1,
    seed: n,
    sha256: '',
    content_type: 'image/png',
  }))
  await api.worker.store.end(id, { status: 'succeeded', output: { images: pictures }, gpuMs: 12_345, bytes: 999 })
  const used = { gpu_seconds: 12.345, jobs: 1, pictures: 2, bytes: 999 }
  expect(await usageOf('ann')).toMatchObject({ today: used, retained: used, queued: { gpu_seconds: 7 } })
  expect(await usageOf('ben')).toEqual({ owner: 'ben', weight: 1, today: nothing, retained: nothing, inputs, queued: { gpu_seconds: 0 } })

  // A deleted job still counts as used.
  expect((await api.get(`/v1/jobs/${id}`, { method: 'DELETE', headers: asOwner('ann') })).status).toBe(204)
  expect(await usageOf('ann')).toMatchObject({ today: used, retained: nothing })
  expect((await api.get('/v1/usage')).status).toBe(401)

  const asBen = { 'X-API-Key': 'ben-ben-secret' }
  const other = (await (await api.post('/v1/jobs', { prompt: 'p' }, asBen)).json()) as { id: string }
  const metrics = await (await api.get('/metrics')).text()
  expect(metrics).toContain('easel_owner_gpu_seconds_total{owner="ann"} 12.345')
  expect(metrics).toContain('easel_owner_gpu_seconds_queued{owner="ann"} 7')
  // Two thirds, because ben has the other third.
  expect(metrics).toMatch(/easel_owner_share\{owner="ann"\} 0\.66+7?\n/)
  await api.get(`/v1/jobs/${other.id}`, { method: 'DELETE', headers: asBen })
  await expect.poll(async () => await (await api.get('/metrics')).text()).toContain('easel_owner_share{owner="ann"} 1\n')
})
