import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startTestApi } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'
import type { OpenAiError } from './errors.ts'
import { imagesRequestSchema, toRequest } from './to-request.ts'
import type { ImagesRequest } from './to-request.ts'

let api: TestApi
/** A replica that waits for a second only, for the test in which the job does not end in time. */
let hasty: TestApi
beforeAll(async () => {
  api = await startTestApi()
  hasty = await startTestApi({ redis: api.redis, env: { INFERENCE_WAIT: '1' } })
})
afterAll(async () => {
  await hasty.close()
  await api.close()
})

const path = '/v1/images/generations'

async function errorOf(response: Response): Promise<OpenAiError['error'] & { status: number }> {
  return { status: response.status, ...((await response.json()) as OpenAiError).error }
}

/** Posts a request and, while it waits, calls `act` with the id of the job it made. */
async function generate(body: object, act: (id: string) => Promise<unknown>): Promise<Response> {
  return await api.postMeanwhile(path, { prompt: 'a', ...body }, act)
}

test('an invalid parameter is refused with 400 and its name', async () => {
  const bad: [string, unknown][] = [
    ['prompt', ' '],
    ['prompt', 3],
    ['prompt', null],
    ['n', 0],
    ['n', 11],
    ['n', 1.5],
    ['size', '128'],
    ['size', '0x128'],
    ['size', '100x128'],
    ['size', '128x512'],
    ['response_format', 'file'],
    ['output_format', 'gif'],
    ['output_compression', 101],
    ['output_compression', 50],
    ['stream', 'yes'],
    ['partial_images', 4],
    ['background', 'transparent'],
    ['quality', 'best'],
    ['moderation', 'none'],
    ['user', 5],
    ['model', 7],
    ['seed', -1],
    ['guidance_scale', 101],
    ['num_inference_steps', 0],
    ['negative_prompt', 5],
    ['width', 128],
    ['style', 'loud'],
    ['model', 'm'.repeat(1_000_000)],
  ]
  for (const [param, value] of bad) {
    const error = await errorOf(await api.post(path, { prompt: 'a', [param]: value }))
    expect([param, value, error.status, error.type, error.param]).toEqual([param, value, 400, 'invalid_request_error', param])
    expect(error.message).toContain(param)
  }
})

test('all other errors have the same shape, including those raised before a route is reached', async () => {
  const send = (init: RequestInit, to = path): Promise<Response> => api.get(to, { method: 'POST', ...init })
  const json = { 'Content-Type': 'application/json' }
  expect(await errorOf(await send({ headers: json, body: '{' }))).toMatchObject({ status: 400, code: 'malformed_body' })
  expect(await errorOf(await send({ body: 'a' }))).toMatchObject({ status: 415, code: 'unsupported_media_type' })
  expect(await errorOf(await send({ headers: json, body: '[]' }))).toMatchObject({ status: 400, param: null })
  expect(await errorOf(await send({}, '/v1/images/variations'))).toMatchObject({ status: 404, code: 'not_found' })
  expect(await errorOf(await api.get(path))).toMatchObject({ status: 405, code: 'method_not_allowed' })
  expect(await errorOf(await api.post(path, { prompt: 'a', model: 'x' }))).toMatchObject({ status: 404, param: 'model' })
})

test('null counts as absent, and parameters without effect are accepted', async () => {
  const without = { quality: 'high', moderation: 'low', user: 'me', style: 'vivid' }
  const body = { n: null, size: null, model: null, seed: null, background: 'opaque', ...without }
  const response = await generate(body, (id) => api.worker.succeed(id))
  expect(response.status).toBe(200)
  expect(response.headers.get('x-ignored-fields')?.split(', ').sort()).toEqual(Object.keys(without).sort())
  const id = response.headers.get('location')?.split('/').at(-1) ?? ''
  const { data, ...rest } = (await response.json()) as { data: object[] }
  expect(rest).toMatchObject({ size: '128x128', output_format: 'png', created: expect.any(Number) as number })
  const b64 = Buffer.from(`picture 0 of ${id}`).toString('base64')
  expect(data).toEqual([{ url: `${api.url}/images/${id}-0.png`, b64_json: b64 }])
  expect(await api.worker.store.get(id)).toMatchObject({ dialect: 'openai' })
})

test('every field that describes the picture is accepted, and a misspelt name is answered with the right one', async () => {
  const asked = { prompt_2: 'b', sigmas: [1, 0.5], guidance_interval: [0, 0.5], clip_skip: 1, max_sequence_length: 12 }
  const response = await generate(asked, (id) => api.worker.succeed(id))
  const record = await api.worker.store.get(response.headers.get('location')?.split('/').at(-1) ?? '')
  expect(record?.input).toMatchObject({ ...asked, num_inference_steps: 2 })
  const misspelt = await errorOf(await api.post(path, { prompt: 'a', guidance_scal: 3 }))
  expect(misspelt).toMatchObject({ status: 400, code: 'unknown_parameter', param: 'guidance_scal' })
  expect(misspelt.message).toBe("Unknown parameter: 'guidance_scal'. Did you mean 'guidance_scale'?")
})

describe('what OpenAI’s client is told to do about a job', () => {
  const failed = { code: 'out_of_memory', message: 'The job needs more memory than the device has free.', retryable: true } as const

  test('that failed: to try again if that may help', async () => {
    const response = await generate({}, (id) => api.worker.store.end(id, { status: 'failed', error: failed }))
    expect(response.headers.get('x-should-retry')).toBeNull()
    expect(await errorOf(response)).toEqual({ status: 500, type: 'server_error', code: failed.code, message: failed.message, param: null })
    const final = { ...failed, retryable: false }
    const never = await generate({}, (id) => api.worker.store.end(id, { status: 'failed', error: final }))
    expect([never.status, never.headers.get('x-should-retry')]).toEqual([500, 'false'])
  })

  test('that was canceled: not to try again', async () => {
    const response = await generate({}, (id) => api.worker.store.requestCancel(id))
    expect([response.status, response.headers.get('x-should-retry')]).toEqual([409, 'false'])
  })

  test('that takes longer than the wait: not to try again, unless a key makes that the same job', async () => {
    const response = await hasty.post(path, { prompt: 'a' })
    expect([response.status, response.headers.get('x-should-retry')]).toEqual([504, 'false'])
    expect((await api.get(response.headers.get('location') ?? '')).status).toBe(200)
    const keyed = await hasty.post(path, { prompt: 'a' }, { 'Idempotency-Key': 'k' })
    expect([keyed.status, keyed.headers.get('x-should-retry')]).toEqual([504, null])
    const again = await hasty.post(path, { prompt: 'a' }, { 'Idempotency-Key': 'k' })
    expect(again.headers.get('location')).toBe(keyed.headers.get('location'))
    expect(again.headers.get('idempotency-replayed')).toBe('true')
  })

  test('that fails while it is streamed: the reason, in an error event', async () => {
    const response = await generate({ stream: true }, (id) => api.worker.store.end(id, { status: 'failed', error: failed }))
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    const text = await response.text()
    const error = { message: failed.message, type: 'server_error', param: null, code: failed.code }
    expect(text).toBe(`event: error\ndata: ${JSON.stringify({ type: 'error', error })}\n\n`)
  })
})

test('a caller that disconnects cancels its job, unless an Idempotency-Key lets it come back', async () => {
  const leave = async (headers: Record<string, string>): Promise<string> => {
    const leaving = new AbortController()
    const init = {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: '{"prompt": "a"}',
      signal: leaving.signal,
    }
    const [before] = await api.worker.store.list('', { limit: 1 })
    const left = api.get(path, init).catch((error: unknown) => (error as Error).name)
    const id = await vi.waitFor(
      async () => {
        const [newest] = await api.worker.store.list('', { limit: 1 })
        if (newest === undefined || newest.id === before?.id) throw new Error('Expected a job, got none yet')
        return newest.id
      },
      { timeout: 20_000 },
    )
    leaving.abort()
    expect(await left).toBe('AbortError')
    return id
  }
  const kept = await leave({ 'Idempotency-Key': 'left' })
  const lost = await leave({})
  await vi.waitFor(async () => expect((await api.worker.store.get(lost))?.status).toBe('canceled'), { timeout: 60_000 })
  expect((await api.worker.store.get(kept))?.status).toBe('queued')
})

test('previews are spread over the run, and only made for streams', () => {
  const every = (body: Partial<ImagesRequest>): number | undefined => {
    return toRequest(imagesRequestSchema.parse({ prompt: 'a', ...body }), { defaultSteps: 20 }).request.preview_every
  }
  expect(every({ stream: true, partial_images: 3 })).toBe(5)
  expect(every({ stream: true, partial_images: 1, num_inference_steps: 9 })).toBe(4)
  expect(every({ stream: true, partial_images: 3, num_inference_steps: 1 })).toBe(1)
  expect(every({ stream: true, partial_images: 0 })).toBeUndefined()
  expect(every({ stream: false, partial_images: 3 })).toBeUndefined()
})
