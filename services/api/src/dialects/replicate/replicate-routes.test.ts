import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'
import type { Prediction } from './to-prediction.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(async () => {
  await api.close()
})

const byModel = '/v1/models/local/tiny-scenes/predictions'

type Body = Prediction & { detail: string; title: string }

async function read(request: Promise<Response>): Promise<{ status: number; body: Body }> {
  const response = await request
  return { status: response.status, body: (await response.json()) as Body }
}

test('a version names its model with or without an owner', async () => {
  for (const version of ['tiny-scenes', 'local/tiny-scenes', 'local/tiny-scenes:tiny-scenes']) {
    const { status, body } = await read(api.post('/v1/predictions', { version, input: { prompt: 'a' } }))
    expect([status, body.model, body.version, body.status]).toEqual([201, 'local/tiny-scenes', 'tiny-scenes', 'starting'])
    expect(body.urls.get).toBe(`${api.url}/v1/predictions/${body.id}`)
  }
  const unknown = await read(api.post('/v1/predictions', { version: 'a'.repeat(64), input: { prompt: 'a' } }))
  expect([unknown.status, unknown.body.detail]).toEqual([422, `There is no model ${'a'.repeat(64)}. Served here: tiny-scenes.`])
})

test('a refused field is answered with 422 and a line of its own, any other refusal with the status of /v1 and a detail', async () => {
  const post = (body: unknown, headers?: Record<string, string>): ReturnType<typeof read> => read(api.post(byModel, body, headers))
  const bad: [unknown, string][] = [
    [{}, '- input: expected an object, got nothing\n'],
    [{ input: { prompt: ' ' } }, '- input.prompt: expected text that is not blank, got " "\n'],
    [{ input: { prompt: 'a', seed: null } }, '- input.seed: expected a number, got null\n'],
    [{ input: { prompt: 'a', width: 512 } }, '- input.width: expected a multiple of 16, at most 256, got 512\n'],
    [{ input: { prompt: 'a' }, webhook: 'http://example.com' }, '- webhook: expected an https:// URL, got "http://example.com"\n'],
  ]
  for (const [sent, detail] of bad) expect(await post(sent)).toMatchObject({ status: 422, body: { detail, status: 422 } })
  const filter = await post({ input: { prompt: 'a' }, webhook_events_filter: ['done'] })
  expect(filter).toMatchObject({ status: 422, body: { detail: expect.stringMatching(/^- webhook_events_filter.0: /) as string } })
  const late = await post({ input: { prompt: 'a' } }, { 'Cancel-After': 'soon' })
  expect(late).toMatchObject({ status: 422, body: { detail: expect.stringMatching(/^- Cancel-After: /) as string } })
  expect(await read(api.get('/v1/predictions/x'))).toMatchObject({
    status: 404,
    body: { detail: 'There is no such job.', title: 'There is nothing here.' },
  })
  expect(await read(api.get(byModel))).toMatchObject({ status: 405, body: { status: 405 } })
})

test('inputs that no model here knows are ignored and reported', async () => {
  const unknown = { go_fast: true, scheduler: 'K_EULER', disable_safety_checker: true, output_quality: 90, 'x\r\ny': 1 }
  const response = await api.post(byModel, { input: { prompt: 'a', ...unknown }, extra: 1 })
  const { input } = (await response.json()) as Prediction
  expect([response.status, Object.keys(input)]).toEqual([201, expect.not.arrayContaining(Object.keys(unknown))])
  expect(response.headers.get('x-ignored-fields')?.split(', ').sort()).toEqual(Object.keys(unknown).slice(0, 4).sort())
})

test('the usual names of inputs stand for ours, and an aspect ratio becomes a size that the model takes', async () => {
  const inputOf = async (input: object): Promise<object> => (await read(api.post(byModel, { input: { prompt: 'a', ...input } }))).body.input
  const usual = { steps: 5, cfg: 2.5, num_outputs: 2, output_format: 'jpg', output_quality: 0, aspect_ratio: '3:2' }
  expect(await inputOf(usual)).toMatchObject({
    num_inference_steps: 5,
    guidance_scale: 2.5,
    num_images_per_prompt: 2,
    output_format: 'jpeg',
    output_quality: 1,
    width: 160,
    height: 112,
  })
  expect(await inputOf({ aspect_ratio: 'custom', width: 64, height: 96 })).toMatchObject({ width: 64, height: 96 })
})

test('inputs that would change the picture, and two that contradict each other, are refused by name', async () => {
  for (const [input, field] of [
    [{ image: 'https://example.com/a.png' }, 'image'],
    [{ mask: 'data:image/png;base64,AA==' }, 'mask'],
    [{ lora_weights: 'a/b' }, 'lora_weights'],
    [{ steps: 5, num_inference_steps: 6 }, 'steps'],
    [{ aspect_ratio: '3:2', width: 64 }, 'aspect_ratio'],
    [{ aspect_ratio: 'wide' }, 'aspect_ratio'],
  ] as const) {
    const { status, body } = await read(api.post(byModel, { input: { prompt: 'a', ...input } }))
    expect([field, status, body.detail.startsWith(`- input.${field}: `)]).toEqual([field, 422, true])
  }
})

test('a webhook gets every event unless it names some, and the names are translated to those of /v1', async () => {
  const filterOf = async (filter?: string[]): Promise<unknown> => {
    const body = { input: { prompt: 'a' }, webhook: 'https://example.com/a', webhook_events_filter: filter }
    const { id } = (await read(api.post(byModel, body))).body
    const record = await api.worker.store.get(id)
    expect(record?.dialect).toBe('replicate')
    return record?.webhookEventsFilter
  }
  expect(await filterOf()).toEqual(['started', 'progress', 'completed'])
  expect(await filterOf(['output'])).toEqual(['completed'])
  expect(await filterOf(['start', 'logs'])).toEqual(['started', 'progress'])
})

test('a wait that ends before the job does is answered with starting, even if the job is running already', async () => {
  const key = { 'Idempotency-Key': 'wait' }
  const body = { input: { prompt: 'a' } }
  const made = await read(api.post(byModel, body, key))
  await api.worker.store.start(made.body.id, 'w')
  expect((await read(api.get(`/v1/predictions/${made.body.id}`))).body.status).toBe('processing')
  const waited = await read(api.post(byModel, body, { ...key, Prefer: 'wait=1' }))
  expect([waited.status, waited.body.id, waited.body.status]).toEqual([202, made.body.id, 'starting'])
  await api.worker.succeed(made.body.id)
  const ended = await read(api.post(byModel, body, { ...key, Prefer: 'wait' }))
  expect([ended.status, ended.body.status, ended.body.output]).toEqual([201, 'succeeded', [`${api.url}/images/${made.body.id}-0.png`]])
})

test('Cancel-After limits both the time until the start and the time of the run', async () => {
  const { id } = (await read(api.post(byModel, { input: { prompt: 'a' } }, { 'Cancel-After': '1h2m3s' }))).body
  const record = await api.worker.store.get(id)
  expect([record?.timeoutSeconds, (record?.expiresAt ?? 0) - (record?.createdAt ?? 0)]).toEqual([3723, 3_723_000])
})

test('a failed prediction says why it failed', async () => {
  const { id } = (await read(api.post(byModel, { input: { prompt: 'a' } }))).body
  await api.worker.store.end(id, { status: 'failed', error: { code: 'timeout', message: 'The job ran longer.', retryable: true } })
  const { body } = await read(api.get(`/v1/predictions/${id}`))
  expect(body).toMatchObject({
    status: 'failed',
    error: 'The job ran longer.',
    output: null,
    metrics: { total_time: expect.any(Number) as number },
  })
})

test('a list continues from its cursor until there is no more', async () => {
  const other = await startTestApi({ redis: api.redis, env: { QUEUE_PREFIX: '{list}' } })
  for (let i = 0; i < 101; i++) await other.submit({ prompt: `${i}` })
  const first = (await (await other.get('/v1/predictions')).json()) as { next: string; results: Prediction[] }
  expect(first.results.map(({ input }) => input.prompt).slice(0, 2)).toEqual(['100', '99'])
  const second = (await (await fetch(first.next)).json()) as { next: null; results: Prediction[] }
  expect([first.results.length, second.results.length, second.next]).toEqual([100, 1, null])
  expect((await other.get('/v1/predictions?cursor=x')).status).toBe(422)
  await other.close()
})

test('when there are several owners, each is told the secret that signs its own messages', async () => {
  const configured = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  const env = {
    API_KEYS: 'alice:first-secret,bob:second-secret,bob:third-secret',
    WEBHOOK_SECRETS: configured,
    WEBHOOK_ALLOW_INSECURE: 'true',
  }
  const shared = await startTestApi({ redis: api.redis, env: { ...env, QUEUE_PREFIX: '{owners}' } })
  const got: { headers: Record<string, string>; body: string }[] = []
  const receiver = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      got.push({ headers: request.headers as Record<string, string>, body })
      response.end()
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  const webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
  const secretOf = async (key: string): Promise<string> => {
    const told = await shared.get('/v1/webhooks/default/secret', { headers: { Authorization: `Bearer ${key}` } })
    return ((await told.json()) as { key: string }).key
  }
  const secrets = { alice: await secretOf('first-secret'), bob: await secretOf('second-secret') }
  expect(await secretOf('third-secret')).toBe(secrets.bob)
  expect(new Set([configured, secrets.alice, secrets.bob]).size).toBe(3)

  const body = { prompt: 'p', webhook, webhook_events_filter: ['queued'] }
  expect((await shared.post('/v1/jobs', body, { Authorization: 'Bearer third-secret' })).status).toBe(202)
  await expect.poll(() => got.length, { timeout: 60_000 }).toBe(1)
  const verify = (secret: string): unknown => new Webhook(secret).verify(got[0]?.body ?? '', got[0]?.headers ?? {})
  expect(verify(secrets.bob)).toMatchObject({ type: 'job.queued' })
  for (const wrong of [secrets.alice, configured]) expect(() => verify(wrong)).toThrow('No matching signature')
  receiver.close()
  await shared.close()
})

test('only holders of an API key are told the signing secret', async () => {
  const closed = await read(api.get('/v1/webhooks/default/secret'))
  expect([closed.status, closed.body.detail.split('.')[0]]).toEqual([404, 'The secret is returned only if API_KEYS are set'])
  const keyed = await startTestApi({ redis: api.redis, env: { API_KEYS: 'secret-key' } })
  const path = '/v1/webhooks/default/secret'
  expect((await keyed.get(path)).status).toBe(401)
  const told = await keyed.get(path, { headers: { Authorization: 'Bearer secret-key' } })
  expect([told.status, told.headers.get('cache-control')]).toEqual([200, 'no-store'])
  expect(await told.json()).toEqual({ key: expect.stringMatching(/^whsec_/) as string })
  await keyed.close()
})
