/**
 * Several hundred requests that nobody would write, in every dialect, to an api with a real worker: no answer is a server error, and no accepted job
 * fails. The seed is fixed, so that every run sends the same requests.
 */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { generationFields, isEnded } from '@easel/contract'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'
import { startWorkerProcess } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

const seed = 20_261_130
const requestCount = 300
const atOnce = 8

let api: TestApi
let worker: ServiceProcess
beforeAll(async () => {
  api = await startTestApi({ env: { WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_RETRY_DELAYS: '0', PREFER_WAIT_MAX: '60' } })
  const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))
  worker = await startWorkerProcess({
    REDIS_URL: api.redis.url,
    MODELS_DIR: modelsDir,
    DEVICE: 'cpu',
    STORAGE: 'local',
    STORAGE_DIR: api.storageDir,
  })
})
afterAll(async () => {
  worker?.child.kill('SIGTERM')
  await worker?.ended
  await api?.close()
})

/** Random numbers in [0, 1) that are the same for the same seed (Mulberry32). */
function createRandom(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const random = createRandom(seed)
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
const chance = (share: number): boolean => random() < share

const anything: readonly unknown[] = [
  null,
  true,
  '',
  ' ',
  'a',
  '\u0000',
  '\ud800',
  '👩‍👩‍👧‍👦',
  'ä'.repeat(5000),
  '../../etc/passwd',
  '1; DROP TABLE jobs',
  '{{7*7}}',
  '%s%n',
  '<script>',
  0,
  -1,
  1,
  2,
  0.5,
  64,
  1e308,
  -1e308,
  2 ** 53,
  Number.MIN_VALUE,
  [],
  [null],
  [1, 0.5],
  [[[[]]]],
  {},
  { a: { b: {} } },
  { __proto__: 1, toString: 2 },
]
/** Values that make quick jobs, so that some requests are accepted. */
const sensible: Record<string, readonly unknown[]> = {
  prompt: ['a cat', 'ein Boot', '船', 'a'.repeat(300), '"quoted" \\ \n lines', '\u202eolleh'],
  width: [64, 128],
  height: [64, 128],
  num_inference_steps: [1, 2],
  steps: [1, 2],
  num_images_per_prompt: [1, 2],
  num_outputs: [1],
  n: [1, 2],
  num_images: [1],
  guidance_scale: [0, 1, 4.5],
  cfg: [3],
  seed: [0, 7, 2 ** 40],
  sigmas: [[1, 0.5], [1]],
  guidance_interval: [
    [0, 1],
    [0.5, 0.5],
  ],
  clip_skip: [0, 1],
  max_sequence_length: [1, 20],
  output_format: ['png', 'jpeg', 'webp'],
  output_quality: [1, 100],
  size: ['64x64', 'auto'],
  aspect_ratio: ['1:1', '99:1'],
  image_size: [{ width: 64, height: 64 }],
  response_format: ['url', 'b64_json'],
  stream: [true, false],
  partial_images: [0, 3],
  preview_every: [1, 200],
  negative_prompt: ['', 'b'],
  priority: [-10, 10],
  expires_in: [3600],
  timeout: [3600],
  webhook: ['http://127.0.0.1:9/'],
  quality: ['hd'],
  style: ['vivid'],
}
const limits = new Set(['timeout', 'expires_in', 'deadline'])
const fields = [...new Set([...Object.keys(generationFields), ...Object.keys(sensible), 'model', 'user', '__proto__', 'constructor'])]

/** A small request in which some fields may be wrong in any way. */
function makeInput(): Record<string, unknown> {
  const input: Record<string, unknown> = { prompt: pick(sensible['prompt'] ?? []) }
  const own = fields.filter((field) => field !== 'sigmas')
  for (let i = Math.floor(random() * 4); i > 0; i--) {
    const field = pick(chance(0.2) ? fields : own)
    const value = pick(chance(0.7) ? (sensible[field] ?? anything) : anything)
    // A job may well miss a limit of a few seconds on a busy machine.
    if (limits.has(field) && typeof value === 'number' && value > 0 && value < 3600) continue
    Object.defineProperty(input, field, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    })
  }
  return input
}

/** Without a number of steps a picture would take the model's twenty, for which there is no time. */
const quick = (input: Record<string, unknown>, field = 'num_inference_steps'): Record<string, unknown> =>
  'sigmas' in input || field in input ? input : { ...input, [field]: 1 }

const surfaces: readonly (() => { path: string; body: unknown })[] = [
  () => ({ path: '/v1/jobs', body: quick(makeInput()) }),
  () => ({ path: '/v1/images/generations', body: quick(makeInput()) }),
  () => ({ path: '/api/diffusers/inference', body: quick(makeInput()) }),
  () => ({
    path: '/v1/predictions',
    body: { version: pick(['tiny-scenes', 'local/tiny-scenes:x', ':', '/', 'a/b/c', 7]), input: quick(makeInput()) },
  }),
  () => ({
    path: `/v1/models/${pick(['local/tiny-scenes', '%00/%ff', 'a/b', '../..'])}/predictions`,
    body: { input: chance(0.9) ? quick(makeInput()) : pick(anything) },
  }),
  () => ({
    path: `/fal/queue/local/tiny-scenes${pick(['', '?fal_webhook=x', '?fal_max_queue_length=-1', '?fal_max_queue_length=9999'])}`,
    body: quick(makeInput()),
  }),
  () => ({ path: '/fal/run/local/tiny-scenes', body: quick(makeInput()) }),
]
const readers = [
  '/v1/jobs',
  '/v1/jobs/ID',
  '/v1/jobs/ID/events',
  '/v1/jobs/ID/webhooks',
  '/images/ID-0.png',
  '/v1/predictions',
  '/v1/predictions/ID',
  '/v1/models/ID',
  '/fal/queue/a/b/requests/ID',
  '/fal/queue/a/b/requests/ID/status',
  '/api/status',
  '/readyz',
  '/',
]

interface FuzzRequest {
  path: string
  init: RequestInit
}

function makeRequest(): FuzzRequest {
  const headers: Record<string, string> = {}
  const optional: Record<string, readonly string[]> = {
    prefer: ['wait=1', 'wait="', 'respond-async, wait=0', '"\\'.repeat(500), 'wait=-1'],
    'idempotency-key': ['k', '"k"', '"', 'x'.repeat(300)],
    'if-none-match': ['*', 'W/', '"a', ', ,'],
    'last-event-id': ['0-0', '-', 'x'],
    'cancel-after': ['soon', '1h', '9'.repeat(50)],
    'x-fal-request-timeout': ['3600', 'x', '1e9'],
    'x-fal-queue-priority': ['low', 'x'],
    'x-fal-target-url': ['https://fal.run/local/tiny-scenes', 'https://queue.fal.run/%zz', ':', 'https://fal.run@elsewhere/'],
    accept: ['text/html', '*/*;q=', ',,,'],
    traceparent: ['00-0-0-0', 'x'],
  }
  for (const [name, values] of Object.entries(optional)) if (chance(0.15)) headers[name] = pick(values)
  if (chance(0.2)) {
    const id = pick(['x', '%00', '01980000-0000-7000-8000-000000000000', 'ffffffff-ffff-7fff-bfff-ffffffffffff', '.'.repeat(300)])
    const query = pick(['', '?limit=x', '?cursor=', '?logs=1', '?limit=100&limit=1', '?%ff=%00'])
    const method = pick(['GET', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
    return { path: pick(readers).replace('ID', id) + query, init: { method, headers } }
  }
  const { path, body } = pick(surfaces)()
  headers['content-type'] = chance(0.95)
    ? 'application/json'
    : pick(['text/plain', 'application/json; charset=utf-16', 'multipart/form-data; boundary=x'])
  const text = chance(0.95)
    ? JSON.stringify(body)
    : pick(['', '{', '[1', 'null', '"a"', '['.repeat(50_000), '\ufeff{}', '{"prompt":"a","prompt":"b"}'])
  return { path: chance(0.05) ? '/fal/proxy' : path, init: { method: 'POST', headers, body: text } }
}

test(`requests that nobody would write (seed ${seed}) cause no server error and no failed job`, async () => {
  const requests = Array.from({ length: requestCount }, makeRequest)
  const wrong: string[] = []
  let taken = 0
  const send = async ({ path, init }: FuzzRequest): Promise<void> => {
    const response = await api.get(path, init)
    const text = await response.text()
    if (response.status >= 500) wrong.push(`${path} ${JSON.stringify(init).slice(0, 500)}: ${response.status} ${text.slice(0, 300)}`)
    if (response.headers.has('location')) taken++
  }
  const queue = requests.values()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const request of queue) await send(request)
    }),
  )
  expect(wrong).toEqual([])
  expect(taken).toBeGreaterThan(40)

  const unfinished = async (): Promise<number> =>
    (await api.worker.store.count('', 'queued')) + (await api.worker.store.count('', 'running'))
  await expect.poll(unfinished, { timeout: 240_000, interval: 200 }).toBe(0)
  const jobs = await api.worker.store.list('', { limit: 1000 })
  expect(jobs.filter(({ status }) => !isEnded(status) || status === 'failed').map(({ input, error }) => ({ input, error }))).toEqual([])
})
