/** How requests may name models in every dialect, and which models are listed. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Capabilities, Job } from '@easel/contract'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(async () => await redis.stop())

const day = 86_400_000

/** The model of the job that a request made, or the status with which it was refused. */
async function modelOf(api: TestApi, path: string, body: object): Promise<string | number> {
  const response = await api.post(path, body)
  await response.body?.cancel()
  const id = response.headers.get('location')?.split('/').at(-1)
  return id === undefined ? response.status : ((await api.worker.store.get(id))?.input.model ?? '')
}

const stream = { prompt: 'a', stream: true }

test('an alias means its model in every dialect', async () => {
  const env = { QUEUE_PREFIX: '{aliases}', MODEL_ALIASES: 'best=tiny-scenes, acme/best=tiny-scenes, dall-e-3=other' }
  const api = await startTestApi({ redis, env })
  await api.worker.registry.announce({ ...tinyScenes, id: 'other' })
  for (const [path, body, model] of [
    ['/v1/jobs', { prompt: 'a', model: 'best' }, 'tiny-scenes'],
    ['/v1/images/generations', { ...stream, model: 'best' }, 'tiny-scenes'],
    ['/v1/images/generations', { ...stream, model: 'dall-e-3' }, 'other'],
    ['/v1/predictions', { version: 'acme/best', input: { prompt: 'a' } }, 'tiny-scenes'],
    ['/v1/models/acme/best/predictions', { input: { prompt: 'a' } }, 'tiny-scenes'],
    ['/fal/queue/acme/best', { prompt: 'a' }, 'tiny-scenes'],
    // Two models are served, so the usual names mean neither of them.
    ['/v1/images/generations', { ...stream, model: 'gpt-image-1' }, 404],
  ] as const) {
    expect([path, await modelOf(api, path, body)]).toEqual([path, model])
  }
  expect(await (await api.get('/v1/models/best')).json()).toMatchObject({ id: 'tiny-scenes' })
  await api.close()
})

test('where one model is served, it is meant by the names that clients of each vendor usually send to it, and by no others', async () => {
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{usual}' } })
  for (const [path, body, model] of [
    ['/v1/images/generations', { ...stream, model: 'dall-e-3' }, 'tiny-scenes'],
    ['/v1/images/generations', { ...stream, model: 'gpt-image-1' }, 'tiny-scenes'],
    ['/v1/models/stability-ai/stable-diffusion-3.5-large/predictions', { input: { prompt: 'a', aspect_ratio: '1:1' } }, 'tiny-scenes'],
    ['/fal/queue/fal-ai/stable-diffusion-v35-large', { prompt: 'a' }, 'tiny-scenes'],
    ['/v1/images/generations', { ...stream, model: 'mine' }, 404],
    ['/fal/queue/someone/else', { prompt: 'a' }, 404],
    ['/v1/jobs', { prompt: 'a', model: 'dall-e-3' }, 422],
  ] as const) {
    expect([path, await modelOf(api, path, body)]).toEqual([path, model])
  }
  await api.close()
})

test('a model that no worker has announced for a day is in no list, and its jobs are still accepted', async () => {
  let clock = Date.now()
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{stale}' }, now: () => clock })
  await api.worker.registry.announce({ ...tinyScenes, id: 'other' })
  const listed = async (): Promise<unknown> => {
    const { models } = (await (await api.get('/v1/capabilities')).json()) as Capabilities
    const { data } = (await (await api.get('/v1/models')).json()) as { data: { id: string }[] }
    const ready = await api.get('/readyz')
    return [models.map(({ id, default: isDefault }) => [id, isDefault]), data.map(({ id }) => id), ready.status, await ready.json()]
  }
  expect(await listed()).toEqual([
    [
      ['other', false],
      ['tiny-scenes', true],
    ],
    ['other', 'tiny-scenes'],
    200,
    { status: 'ready', models: ['other', 'tiny-scenes'], workers: { other: 0, 'tiny-scenes': 0 }, storage: 'ok' },
  ])
  clock += day + 60_000
  expect(await listed()).toEqual([[], [], 200, { status: 'ready', models: [], workers: {}, storage: 'ok' }])
  expect((await api.post('/v1/jobs', { prompt: 'a', model: 'other' })).status).toBe(202)
  await api.close()
})

test('the answer about a job for a model without workers says so until there is one', async () => {
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{nobody}' } })
  const { id, notice } = await api.submit()
  expect(notice).toBe('No worker serves tiny-scenes now; the job waits until there is one.')
  const heartbeat = { model: 'tiny-scenes', concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1, ready: true }
  await api.worker.registry.heartbeat({ id: 'w1', ...heartbeat })
  const read = async (): Promise<Job> => (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
  await expect.poll(async () => (await read()).notice, { timeout: 60_000 }).toBeNull()
  await api.close()
})

test('headers lead through the path of PUBLIC_URL, and a model whose name has to be escaped is reached by the URLs of its dialects', async () => {
  const env = { QUEUE_PREFIX: '{path}', PUBLIC_URL: 'https://pictures.example/easel/', MODEL: 'models/été 1' }
  const api = await startTestApi({ redis, env, model: { ...tinyScenes, id: 'été 1' } })
  const base = 'https://pictures.example/easel'
  const encoded = 'local/%C3%A9t%C3%A9%201'
  for (const [path, body] of [
    ['/v1/jobs', { prompt: 'a' }],
    ['/v1/images/generations', stream],
    [`/v1/models/${encoded}/predictions`, { input: { prompt: 'a' } }],
    [`/fal/queue/${encoded}`, { prompt: 'a' }],
  ] as const) {
    const response = await api.post(path, body)
    await response.body?.cancel()
    expect([path, response.status < 300, response.headers.get('location')]).toEqual([
      path,
      true,
      expect.stringMatching(/^\/easel\/v1\/jobs\//),
    ])
  }
  expect((await api.get('/v1/jobs?limit=1')).headers.get('link')).toMatch(/^<\/easel\/v1\/jobs\?limit=1&cursor=/)

  const status = (await (await api.post(`/fal/queue/${encoded}`, { prompt: 'a' })).json()) as Record<string, string>
  expect(status['status_url']).toMatch(new RegExp(`^${base}/fal/queue/${encoded}/requests/`))
  expect((await api.get((status['status_url'] ?? '').slice(base.length))).status).toBe(202)
  const model = (await (await api.get(`/v1/models/${encoded}`)).json()) as { url: string; name: string }
  expect(model).toMatchObject({ url: `${base}/v1/models/${encoded}`, name: 'été 1' })
  await api.close()
})
