import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job, Problem } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
let nowMs = Date.now()

beforeAll(async () => {
  api = await startTestApi({ now: () => nowMs, env: { RESULT_TTL: '60', MAX_PROMPT_LENGTH: '100', MAX_QUEUED_JOBS: '0' } })
})
afterAll(async () => {
  await api.close()
})

const job = async (response: Response): Promise<Job> => (await response.json()) as Job
const problem = async (response: Response): Promise<Problem> => {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const body = (await response.json()) as Problem
  expect(body.status).toBe(response.status)
  expect(body.request_id).toBe(response.headers.get('x-request-id'))
  return body
}

describe('a submitted job', () => {
  test('is answered with 202, where and when to poll it, and the whole job', async () => {
    const response = await api.post('/v1/jobs', { prompt: 'a red boat', seed: 42 })
    expect(response.status).toBe(202)
    const made = await job(response)
    expect(response.headers.get('location')).toBe(`/v1/jobs/${made.id}`)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(made).toMatchObject({ status: 'queued', output: null, error: null, timings: null, started_at: null })
    expect(made.input).toMatchObject({
      model: 'tiny-scenes',
      seed: 42,
      width: 128,
      height: 128,
      num_inference_steps: 20,
      guidance_scale: 4,
    })
    const read = await api.get(`/v1/jobs/${made.id}`)
    expect(read.status).toBe(200)
    expect((await job(read)).input).toEqual(made.input)
    expect(await api.deps.queues.of('tiny-scenes').getJob(made.id)).toMatchObject({ data: { id: made.id } })
  })

  test('has in its record what other parts need', async () => {
    const made = await api.submit({ preview_every: 2, priority: 3, expires_in: 60, timeout: 9, webhook: 'https://example.com/hook' })
    const record = await api.worker.store.get(made.id)
    expect(record).toMatchObject({ previewEvery: 2, priority: 3, timeoutSeconds: 9, webhook: 'https://example.com/hook', owner: 'public' })
    expect(record?.expiresAt).toBe((record?.createdAt ?? 0) + 60_000)
  })

  test('has the stable URL and the seed of every image once it has succeeded', async () => {
    const { id } = await api.submit({ seed: 7, num_images_per_prompt: 2 })
    await api.worker.succeed(id)
    const done = await job(await api.get(`/v1/jobs/${id}`))
    expect(done.status).toBe('succeeded')
    expect(done.output?.images.map(({ url, seed }) => [url, seed])).toEqual([
      [`${api.url}/images/${id}-0.png`, 7],
      [`${api.url}/images/${id}-1.png`, 8],
    ])
    expect(done.output?.images[0]).not.toHaveProperty('key')
    expect(done.output?.images[0]).not.toHaveProperty('direct_url')
  })
})

const huge = 1e300
const notIntegers: unknown[] = ['20', true, [], {}, null, 1.5, -1, huge]
const notNumbers: unknown[] = ['4', true, [], {}, null, -1, huge]
const notStrings: unknown[] = [1, true, [], {}, null]
const refused: Record<string, unknown[]> = {
  model: [...notStrings, ''],
  prompt: [...notStrings, undefined, '', ' \n', 'x'.repeat(101), '\ud800'],
  prompt_2: [...notStrings, ' ', 'x'.repeat(101)],
  prompt_3: [...notStrings, '', 'x'.repeat(101)],
  negative_prompt: [...notStrings, 'x'.repeat(101)],
  negative_prompt_2: [...notStrings, 'x'.repeat(101)],
  negative_prompt_3: [...notStrings, 'x'.repeat(101)],
  width: [...notIntegers, 0, 100, 272],
  height: [...notIntegers, 0, 100, 272],
  num_inference_steps: [...notIntegers, 0, 201],
  sigmas: ['1', 1, true, {}, null, [], ['1'], [null], [-1], [huge], Array.from({ length: 201 }, () => 1)],
  guidance_scale: [...notNumbers, 100.5],
  guidance_interval: ['x', 1, {}, null, [], [0], [0, 1, 1], [0.5, 0.2], [-1, 1], [0, 2], ['0', '1']],
  // The last two name a layer that the model does not have.
  skip_guidance_layers: ['1', 1, true, {}, null, [], [-1], ['1'], [1.5], Array.from({ length: 101 }, () => 1), [6], [0, 9]],
  skip_layer_guidance_scale: [...notNumbers, 100.5, 2],
  skip_layer_guidance_start: [...notNumbers, 1.1, 0.5],
  skip_layer_guidance_stop: [...notNumbers, 1.1, 0.5],
  // The model of these tests has the LoRAs tint and wobble.
  loras: [
    'tint',
    1,
    true,
    {},
    null,
    [],
    ['tint'],
    [{}],
    [{ id: 1 }],
    [{ id: '' }],
    [{ id: 'tint', weight: 1 }],
    [{ id: 'none' }],
    ...[...notNumbers.filter((value) => value !== -1), 4.1, -4.1].map((scale) => [{ id: 'tint', scale }]),
    [{ id: 'tint' }, { id: 'tint' }],
    ['a', 'b', 'c', 'd', 'e'].map((id) => ({ id })),
  ],
  num_images_per_prompt: [...notIntegers, 0, 11],
  seed: ['1', true, [], {}, null, 1.5, -1, huge, 2 ** 53],
  clip_skip: [...notIntegers, 2],
  max_sequence_length: [...notIntegers, 0, 513],
  output_format: [...notStrings, 'gif', 'PNG'],
  output_quality: [...notIntegers, 0, 101, 80],
  webhook: [...notStrings, '', 'x'.repeat(2049)],
  webhook_events_filter: ['completed', 1, {}, null, [], ['finished'], [1]],
  preview_every: [...notIntegers, 0, 201],
  priority: ['1', true, [], {}, null, 0.5, 11, -11, huge],
  expires_in: [...notIntegers, 0, 604_801],
  timeout: [...notIntegers, 0, 86_401],
}

describe('a field that cannot be accepted', () => {
  test.for(Object.entries(refused))('is refused by name, with what was expected and what was received: %s', async ([field, values]) => {
    for (const value of values) {
      const response = await api.post('/v1/jobs', { prompt: 'a red boat', [field]: value })
      const body = await problem(response)
      expect([response.status, field, value]).toEqual([422, field, value])
      expect(['invalid_request', 'model_not_found', 'lora_not_found']).toContain(body.code)
      expect(body.errors?.every((error) => error.field.split('.')[0] === field)).toBe(true)
      expect(body.errors?.length).toBeGreaterThan(0)
      for (const error of body.errors ?? [])
        expect([error.expected, error.received].every((text) => text.length > 0 && text.length < 200)).toBe(true)
    }
  })

  test('is refused with a code of its own if it is a LoRA that the model does not have', async () => {
    const body = await problem(await api.post('/v1/jobs', { prompt: 'a', loras: [{ id: 'tint' }, { id: '../tint' }] }))
    expect(body).toMatchObject({ status: 422, code: 'lora_not_found' })
    expect(body.errors).toEqual([{ field: 'loras', expected: 'among tint, wobble', received: '"../tint"' }])
  })

  test('is refused if it is a number too large for a double', async () => {
    for (const field of ['seed', 'width', 'guidance_scale']) {
      const response = await api.get('/v1/jobs', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: `{"prompt": "a", "${field}": 1e999}`,
      })
      expect(response.status).toBe(422)
      expect((await problem(response)).errors).toMatchObject([{ field, received: 'Infinity' }])
    }
  })

  test('is reported together with all the others', async () => {
    const body = await problem(await api.post('/v1/jobs', { prompt: '', width: 'wide', seed: -1, steps: 4 }))
    expect(body.errors?.map((error) => error.field).sort()).toEqual(['prompt', 'seed', 'steps', 'width'])
    expect(body.errors).toContainEqual({ field: 'width', expected: 'an integer of at least 1', received: '"wide"' })
    expect(body.errors).toContainEqual({
      field: 'steps',
      expected: 'no field of this name; did you mean num_inference_steps?',
      received: '4',
    })
    const limits = await problem(await api.post('/v1/jobs', { prompt: 'a', width: 100, clip_skip: 9 }))
    expect(limits.errors?.map((error) => error.field).sort()).toEqual(['clip_skip', 'width'])
  })

  test.for([
    [
      'a field of the wrong kind beside one that the model does not take',
      { prompt: ' ', width: 100, steps: 4 },
      ['prompt', 'steps', 'width'],
    ],
    ['a prompt that is too long beside it', { prompt: 'x'.repeat(101), height: 100 }, ['height', 'prompt']],
    ['no prompt', { clip_skip: 9 }, ['clip_skip', 'prompt']],
    ['what is judged only with a wrong field', { prompt: 'a', output_format: 'gif', output_quality: 80 }, ['output_format']],
    ['a model that is none', { prompt: 'a', model: 7, width: 100 }, ['model']],
  ] as const)('is reported together with the others, whichever check each of them fails: %s', async ([, body, fields]) => {
    const told = await problem(await api.post('/v1/jobs', body))
    expect(told.errors?.map((error) => error.field).sort()).toEqual(fields)
  })

  test('is shortened in the answer', async () => {
    const body = await problem(await api.post('/v1/jobs', { prompt: 'a', width: 'x'.repeat(10_000), ['y'.repeat(10_000)]: 1 }))
    expect(JSON.stringify(body).length).toBeLessThan(2000)
  })

  test('has an empty name if it is the whole body, which is not an object', async () => {
    for (const text of ['[]', '"a"', '1', 'null', 'true']) {
      const response = await api.get('/v1/jobs', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: text })
      expect((await problem(response)).errors).toMatchObject([{ field: '', expected: 'an object' }])
    }
  })

  test('is refused, and has no other effect, if its name is __proto__, constructor or prototype', async () => {
    for (const key of ['__proto__', 'constructor', 'prototype']) {
      const body = `{"prompt": "a", "${key}": {"width": 64, "polluted": true}}`
      const response = await api.get('/v1/jobs', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
      expect([key, response.status]).toEqual([key, 422])
      expect((await problem(response)).errors).toMatchObject([{ field: key }])
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
    }
  })

  test('is answered with the names of all models if it is an unknown model', async () => {
    const body = await problem(await api.post('/v1/jobs', { prompt: 'a', model: 'sdxl' }))
    expect(body).toMatchObject({ status: 422, code: 'model_not_found', errors: [{ field: 'model', received: 'sdxl' }] })
    expect(body.detail).toContain('tiny-scenes')
  })

  test('may be a seed that leaves none for the last image', async () => {
    const seed = Number.MAX_SAFE_INTEGER - 1
    const refusal = await problem(await api.post('/v1/jobs', { prompt: 'a', seed, num_images_per_prompt: 3 }))
    expect(refusal.errors).toMatchObject([{ field: 'seed' }])
    expect((await api.submit({ seed, num_images_per_prompt: 2 })).input.seed).toBe(seed)
  })
})

describe('reading and canceling', () => {
  test('an unknown id is answered with 404, and one from before the retention time with 410', async () => {
    for (const id of [uuidv7(), 'x', 'x'.repeat(1000), '..%2f..%2fetc%2fpasswd', '%00']) {
      expect((await problem(await api.get(`/v1/jobs/${id}`))).code).toBe('not_found')
      expect((await problem(await api.post(`/v1/jobs/${id}/cancel`))).code).toBe('not_found')
    }
    const old = uuidv7({ msecs: nowMs - 61_000 })
    expect((await problem(await api.get(`/v1/jobs/${old}`))).code).toBe('expired')
    expect((await problem(await api.post(`/v1/jobs/${old}/cancel`))).status).toBe(410)
  })

  test('a job is kept for its retention time after its end, not after its creation', async () => {
    const { id } = await api.submit()
    nowMs += 120_000
    expect((await api.get(`/v1/jobs/${id}`)).status).toBe(200)
    await api.worker.store.end(id, { status: 'failed', error: { code: 'internal', message: 'x', retryable: true } })
    nowMs = Date.now()
    expect((await job(await api.get(`/v1/jobs/${id}`))).status).toBe('failed')
    nowMs += 61_000
    expect((await api.get(`/v1/jobs/${id}`)).status).toBe(410)
    nowMs = Date.now()
  })

  test('a queued job is canceled at once and leaves the queue, and canceling it again changes nothing', async () => {
    const { id } = await api.submit()
    const first = await api.get(`/v1/jobs/${id}/cancel`, { method: 'POST' })
    expect([first.status, (await job(first)).status]).toEqual([200, 'canceled'])
    expect(await api.deps.queues.of('tiny-scenes').getJob(id)).toBeUndefined()
    const second = await api.post(`/v1/jobs/${id}/cancel`)
    expect([second.status, (await job(second)).status]).toEqual([200, 'canceled'])
  })

  test('a running job is canceled later, and can no longer succeed', async () => {
    const { id } = await api.submit()
    await api.worker.store.start(id, 'w')
    const response = await api.post(`/v1/jobs/${id}/cancel`)
    expect([response.status, (await job(response)).status]).toEqual([202, 'running'])
    await api.worker.succeed(id)
    expect((await job(await api.get(`/v1/jobs/${id}`))).status).toBe('canceled')
  })

  test('a job that has ended cannot be canceled', async () => {
    const { id } = await api.submit()
    await api.worker.succeed(id)
    const body = await problem(await api.post(`/v1/jobs/${id}/cancel`))
    expect([body.status, body.code]).toEqual([409, 'job_finished'])
  })

  test('a method that is not offered is answered with 405 and those that are', async () => {
    const response = await api.get('/v1/jobs/x/cancel', { method: 'PUT' })
    expect(response.headers.get('allow')).toContain('POST')
    expect((await problem(response)).code).toBe('method_not_allowed')
  })
})
