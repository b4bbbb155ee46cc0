import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'
import type { FalError } from './errors.ts'
import type { FalStatus } from './to-result.ts'
import { unwrapProxied } from './unwrap-proxied.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ env: { INFERENCE_WAIT: '1', WEBHOOK_ALLOW_INSECURE: 'true' } })
})
afterAll(async () => {
  await api.close()
})

const path = '/fal/queue/local/tiny-scenes'

async function submit(
  body: object = {},
  { query = '', headers = {} }: { query?: string; headers?: Record<string, string> } = {},
): Promise<FalStatus> {
  const response = await api.post(path + query, { prompt: 'a', ...body }, headers)
  expect(response.status).toBe(200)
  return (await response.json()) as FalStatus
}

async function refusal(response: Promise<Response>): Promise<[number, FalError['detail']]> {
  const { status } = await response
  return [status, ((await (await response).json()) as FalError).detail]
}

test('an invalid field is refused with 422 and the place where it was found', async () => {
  const bad: [string, unknown][] = [
    ['prompt', ''],
    ['prompt', null],
    ['image_size', 'huge'],
    ['image_size', 'square_hd'],
    ['image_size', { width: 100, height: 128 }],
    ['image_size', { width: 128 }],
    ['num_images', 11],
    ['num_inference_steps', 201],
    ['guidance_scale', -1],
    ['seed', 'x'],
    ['output_format', 'gif'],
    ['sync_mode', true],
    ['negative_prompt', 1],
  ]
  for (const [field, value] of bad) {
    const [status, detail] = await refusal(api.post(path, { prompt: 'a', [field]: value }))
    expect([field, value, status, Array.isArray(detail) && detail[0]?.loc.slice(0, 2)]).toEqual([field, value, 422, ['body', field]])
  }
  const places: [string, Record<string, string>, string[]][] = [
    ['?fal_webhook=ftp://example.com', {}, ['query', 'fal_webhook']],
    ['?fal_max_queue_length=-1', {}, ['query', 'fal_max_queue_length']],
    ['', { 'x-fal-queue-priority': 'high' }, ['header', 'x-fal-queue-priority']],
    ['', { 'x-fal-request-timeout': 'soon' }, ['header', 'x-fal-request-timeout']],
    ['', { 'Idempotency-Key': 'é' }, ['header', 'Idempotency-Key']],
  ]
  for (const [query, headers, loc] of places) {
    const [status, detail] = await refusal(api.post(path + query, { prompt: 'a' }, headers))
    expect([status, detail]).toEqual([422, [expect.objectContaining({ loc }) as object]])
  }
})

test('the detail of any other error is a sentence', async () => {
  expect(await refusal(api.post('/fal/queue/x/y', { prompt: 'a' }))).toEqual([404, 'There is no model x/y. Served here: tiny-scenes.'])
  expect(await refusal(api.get(path))).toEqual([405, 'Expected POST, got GET.'])
  expect(await refusal(api.get('/fal/other'))).toEqual([404, 'There is nothing here.'])
  expect(await refusal(api.get(`${path}/requests/x`))).toEqual([404, 'There is no such job.'])
  const cancel = await api.get(`${path}/requests/x/cancel`, { method: 'PUT' })
  expect([cancel.status, await cancel.json()]).toEqual([404, { status: 'NOT_FOUND' }])
})

test('null counts as absent, unknown fields are ignored, and the rest becomes a job', async () => {
  const body = { seed: null, num_images: 2, image_size: { width: 64, height: 96 }, enable_safety_checker: true, output_format: 'webp' }
  const headers = { 'x-fal-queue-priority': 'low', 'x-fal-request-timeout': '9.5' }
  const { request_id: id, ...status } = await submit(body, { query: '?fal_webhook=http://127.0.0.1:9/a', headers })
  expect(status).toMatchObject({ status: 'IN_QUEUE', cancel_url: `${api.url}${path}/requests/${id}/cancel` })
  const record = await api.worker.store.get(id)
  expect(record).toMatchObject({ dialect: 'fal', priority: -5, webhook: 'http://127.0.0.1:9/a' })
  expect(record?.input).toMatchObject({ width: 64, height: 96, num_images_per_prompt: 2, output_format: 'webp' })
  expect((record?.expiresAt ?? 0) - (record?.createdAt ?? 0)).toBe(10_000)
})

test('an aspect ratio becomes a size that the model takes; a field that would change the picture is refused, and one without effect is reported', async () => {
  const { request_id: id } = await submit({ aspect_ratio: '3:2', loras: [] })
  expect((await api.worker.store.get(id))?.input).toMatchObject({ width: 160, height: 112 })
  const response = await api.post(path, { prompt: 'a', enable_safety_checker: false, acceleration: 'high', image_url: null })
  expect([response.status, response.headers.get('x-ignored-fields')]).toEqual([200, 'enable_safety_checker, acceleration'])
  for (const [field, value] of [
    ['image_url', 'https://example.com/a.png'],
    ['loras', [{ path: 'a' }]],
    ['aspect_ratio', 'wide'],
  ] as const) {
    const [status, detail] = await refusal(api.post(path, { prompt: 'a', [field]: value }))
    expect([field, status, Array.isArray(detail) && detail[0]?.loc]).toEqual([field, 422, ['body', field]])
  }
})

test('the path of a LoRA is its id among those of the model', async () => {
  const { request_id: id } = await submit({ loras: [{ path: 'tint' }, { path: 'wobble', scale: -0.5, transformer: null }] })
  expect((await api.worker.store.get(id))?.input.loras).toEqual([
    { id: 'tint', scale: 1 },
    { id: 'wobble', scale: -0.5 },
  ])
})

test('an accepted request is told how many are ahead of it, and one beyond the given length of the queue is refused', async () => {
  const [first, second] = [await submit(), await submit()]
  expect((second.queue_position ?? 0) - (first.queue_position ?? 0)).toBe(1)
  expect((await refusal(api.post(`${path}?fal_max_queue_length=1`, { prompt: 'a' })))[0]).toBe(429)
  await submit({}, { query: '?fal_max_queue_length=1000' })
})

test('a request that was not started within its own limit is answered with 504, and one that failed with 500', async () => {
  const end = async (code: 'expired' | 'internal'): Promise<Response> => {
    const { request_id: id, response_url: url } = await submit()
    await api.worker.store.end(id, { status: 'failed', error: { code, message: 'It did not work.', retryable: true } })
    const status = await api.get(`${path}/requests/${id}/status`)
    expect(await status.json()).toMatchObject({ status: 'COMPLETED', error: 'It did not work.' })
    return await fetch(url)
  }
  const expired = await end('expired')
  expect([expired.status, expired.headers.get('x-fal-request-timeout-type')]).toEqual([504, 'user'])
  const failed = await end('internal')
  expect([failed.status, await failed.json()]).toEqual([500, { detail: 'It did not work.' }])
})

test('a waiting request that takes too long is answered with 504, and its job goes on', async () => {
  const response = await api.post('/fal/run/local/tiny-scenes', { prompt: 'a' })
  expect(response.status).toBe(504)
  const poll = await api.get(`${path}/requests/${response.headers.get('x-fal-request-id')}/status`)
  expect([poll.status, ((await poll.json()) as FalStatus).status]).toEqual([202, 'IN_QUEUE'])
})

test('the proxy maps the three hosts of fal to paths of this service and leaves everything else alone', async () => {
  const to = (target?: string, url = 'http://here/fal/proxy'): string => {
    return unwrapProxied(new Request(url, { headers: target === undefined ? {} : { 'x-fal-target-url': target } })).url
  }
  expect(to('https://queue.fal.run/a/b?fal_webhook=https%3A%2F%2Fx')).toBe('http://here/fal/queue/a/b?fal_webhook=https%3A%2F%2Fx')
  expect(to('https://queue.fal.run/a/b/requests/1/status')).toBe('http://here/fal/queue/a/b/requests/1/status')
  expect(to('https://rest.fal.ai/storage/upload/initiate?storage_type=x')).toBe(
    'http://here/fal/rest/storage/upload/initiate?storage_type=x',
  )
  expect(to('https://fal.run/a/b/')).toBe('http://here/fal/run/a/b')
  expect(to('https://queue.fal.run/../../v1/jobs')).toBe('http://here/fal/queue/v1/jobs')
  expect(to('https://queue.fal.run/%2e%2e/%2e%2e/v1/jobs')).toBe('http://here/fal/queue/v1/jobs')
  const others = [
    'https://rest.alpha.fal.ai/storage',
    'https://example.com/a/b',
    'http://queue.fal.run/a/b',
    'https://queue.fal.run.example.com/a',
    'a',
  ]
  for (const target of [...others, undefined]) {
    expect(to(target)).toBe('http://here/fal/proxy')
    const headers: Record<string, string> = target === undefined ? {} : { 'x-fal-target-url': target }
    expect((await refusal(api.post('/fal/proxy', { prompt: 'a' }, headers)))[0]).toBe(412)
  }
  expect(to('https://queue.fal.run/a/b', 'http://here/v1/jobs')).toBe('http://here/v1/jobs')
})

test('HEAD on a stream does not follow the job', async () => {
  const { request_id: id } = await submit()
  const before = api.deps.follower.readers
  expect((await api.get(`${path}/requests/${id}/status/stream`, { method: 'HEAD' })).status).toBe(200)
  expect(api.deps.follower.readers).toBe(before)
})
