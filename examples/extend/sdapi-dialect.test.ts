import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createApp } from '../../services/api/src/app.ts'
import { startTestApi } from '../../services/api/test/start-api.ts'
import type { TestApi } from '../../services/api/test/start-api.ts'
import { killProcesses, startWorkerProcess } from '../../services/api/test/start-process.ts'
import { sdapiRoutes } from './sdapi-dialect.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ model: null, env: { API_KEYS: 'me:correct-horse' } })
  await startWorkerProcess({
    REDIS_URL: api.redis.url,
    STORAGE: 'local',
    STORAGE_DIR: api.storageDir,
    MODELS_DIR: fileURLToPath(new URL('../../models', import.meta.url)),
    DEVICE: 'cpu',
  })
})
afterAll(async () => {
  killProcesses()
  await api.close()
})

/** Asks the api with the dialect mounted on it. */
async function txt2img(body: unknown, headers: Record<string, string> = { Authorization: 'Bearer correct-horse' }): Promise<Response> {
  const app = createApp(api.deps).route('/', sdapiRoutes(api.deps))
  const init = { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) }
  return await app.request('/sdapi/v1/txt2img', init)
}

test('a request in the words of this dialect makes pictures, and is answered with them', async () => {
  const body = {
    prompt: 'a red boat on the sea',
    steps: 4,
    cfg_scale: 3,
    width: 64,
    height: 64,
    batch_size: 2,
    seed: 42,
    restore_faces: true,
  }
  const response = await txt2img(body)
  expect([response.status, response.headers.get('x-ignored-fields')]).toEqual([200, 'restore_faces'])
  const { images, info } = (await response.json()) as { images: string[]; info: string }
  expect(images).toHaveLength(2)
  for (const image of images) {
    expect(await sharp(Buffer.from(image, 'base64')).metadata()).toMatchObject({ format: 'png', width: 64, height: 64 })
  }
  expect(JSON.parse(info)).toMatchObject({ steps: 4, cfg_scale: 3, seed: 42, all_seeds: [42, 43] })
  const { jobs } = (await (await api.get('/v1/jobs', { headers: { Authorization: 'Bearer correct-horse' } })).json()) as { jobs: object[] }
  expect(jobs).toMatchObject([{ status: 'succeeded', input: { num_inference_steps: 4, guidance_scale: 3 } }])
})

test('null, and what the clients of this dialect send for any seed, mean the default', async () => {
  const response = await txt2img({ prompt: 'a cat', steps: 2, width: 64, height: 64, seed: -1, negative_prompt: null })
  expect(response.status).toBe(200)
})

test.for([
  [{ prompt: 'a', steps: 0 }, 'steps'],
  [{ prompt: 'a', steps: 'many' }, 'steps'],
  [{ prompt: 'a', cfg_scale: -1 }, 'cfg_scale'],
  [{ prompt: 'a', batch_size: 99 }, 'batch_size'],
  [{ prompt: 'a', width: 65 }, 'width'],
  [{ prompt: 'a', seed: 1.5 }, 'seed'],
  [{ steps: 4 }, 'prompt'],
] as const)('%j is refused under the name that the client gave the field', async ([body, field]) => {
  const response = await txt2img(body)
  expect(response.status).toBe(422)
  expect(await response.json()).toMatchObject({ error: 'invalid_request', errors: [{ field }] })
})

test('a body that is not an object is refused, and so is a caller without a key', async () => {
  expect((await txt2img(['a'])).status).toBe(422)
  expect((await txt2img('a')).status).toBe(422)
  expect((await txt2img({ prompt: 'a' }, {})).status).toBe(401)
})
