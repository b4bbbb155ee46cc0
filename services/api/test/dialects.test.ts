/** The published clients of other services, used with this one and a real worker. */
import { createServer } from 'node:http'
import type { IncomingHttpHeaders, Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { createFalClient } from '@fal-ai/client'
import type { FalClient, QueueStatus } from '@fal-ai/client'
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from 'openai'
import Replicate, { parseProgressFromLogs, validateWebhook } from 'replicate'
import type { Prediction } from 'replicate'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'
import { startWorkerProcess } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

const key = 'a-key-for-tests'
const prompt = 'a red boat on the sea'
/** A small, quick job. */
const small = { num_inference_steps: 2, seed: 7 }
/** A job that takes some seconds. */
const medium = { num_inference_steps: 100, seed: 7 }
/** Enough steps to do something while the job runs. */
const long = { num_inference_steps: 200 }

let api: TestApi
let worker: ServiceProcess
let receiver: Receiver
let openai: OpenAI
let replicate: Replicate
let fal: FalClient

beforeAll(async () => {
  api = await startTestApi({ model: null, env: { API_KEYS: `tests:${key}`, WEBHOOK_ALLOW_INSECURE: 'true' } })
  const models = fileURLToPath(new URL('../../../models', import.meta.url))
  const variables = { MODELS_DIR: models, DEVICE: 'cpu', SHUTDOWN_GRACE: '1', STORAGE: 'local', STORAGE_DIR: api.storageDir }
  worker = await startWorkerProcess({ REDIS_URL: api.redis.url, ...variables })
  receiver = await startReceiver()
  openai = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: key })
  replicate = new Replicate({ baseUrl: `${api.url}/v1`, auth: key })
  fal = createFalClient({ credentials: key, proxyUrl: { url: `${api.url}/fal/proxy`, when: 'always' } })
})
afterAll(async () => {
  receiver?.server.close()
  worker?.child.kill('SIGTERM')
  await worker?.ended
  await api?.close()
})

async function sizeOf(bytes: Uint8Array): Promise<string> {
  const { width, height, format } = await sharp(bytes).metadata()
  return `${format} ${width}x${height}`
}

async function fetchImage(url: string): Promise<string> {
  return await sizeOf(new Uint8Array(await (await fetch(url)).arrayBuffer()))
}

describe('the openai package', () => {
  test('makes pictures as base64 and as URLs, in every format', async () => {
    const b64 = await openai.images.generate({ prompt, n: 2, size: '64x128', response_format: 'b64_json', ...small })
    expect(b64).toMatchObject({ size: '64x128', output_format: 'png', background: 'opaque', usage: { total_tokens: 0 } })
    expect(b64.data?.map((image) => image.url)).toEqual([undefined, undefined])
    const [first, second] = (b64.data ?? []).map((image) => Buffer.from(image.b64_json ?? '', 'base64'))
    expect(await sizeOf(first ?? Buffer.alloc(0))).toBe('png 64x128')
    expect(first?.equals(second ?? Buffer.alloc(0))).toBe(false)

    const url = await openai.images.generate({ prompt, model: 'tiny-scenes', response_format: 'url', output_format: 'webp', ...small })
    expect(url.data?.[0]?.b64_json).toBeUndefined()
    expect(await fetchImage(url.data?.[0]?.url ?? '')).toBe('webp 128x128')

    const both = await openai.images.generate({ prompt, size: 'auto', output_format: 'jpeg', output_compression: 50, ...small })
    expect(await fetchImage(both.data?.[0]?.url ?? '')).toBe('jpeg 128x128')
    expect(await sizeOf(Buffer.from(both.data?.[0]?.b64_json ?? '', 'base64'))).toBe('jpeg 128x128')
  })

  test('streams previews, and then the picture', async () => {
    // A worker's first previews wait for something that it measures once.
    const types = await vi.waitFor(
      async () => {
        const stream = await openai.images.generate({ prompt, stream: true, partial_images: 2, ...medium })
        const seen: string[] = []
        for await (const event of stream) {
          seen.push(event.type)
          const format = event.type === 'image_generation.partial_image' ? 'jpeg' : 'png'
          expect(await sizeOf(Buffer.from(event.b64_json, 'base64'))).toMatch(format)
          expect(event).toMatchObject({ size: '128x128', output_format: format })
        }
        if (seen.length < 2) throw new Error('Expected previews, got none yet')
        return seen
      },
      { timeout: 240_000, interval: 100 },
    )
    expect(types.length).toBeLessThanOrEqual(3)
    expect(types.slice(0, -1)).toEqual(types.slice(1).map(() => 'image_generation.partial_image'))
    expect(types.at(-1)).toBe('image_generation.completed')
  })

  test('cancels the job when its stream is closed', async () => {
    const stream = await openai.images.generate({ prompt, stream: true, n: 4, size: '256x256', ...long })
    const [job] = await api.worker.store.list('', { limit: 1 })
    stream.controller.abort()
    await vi.waitFor(async () => expect((await api.worker.store.get(job?.id ?? ''))?.status).toBe('canceled'), { timeout: 60_000 })
  })

  test('lists and reads models', async () => {
    const models = await Array.fromAsync(openai.models.list())
    expect(models).toEqual([{ id: 'tiny-scenes', object: 'model', created: expect.any(Number) as number, owned_by: 'local' }])
    expect(await openai.models.retrieve('tiny-scenes')).toEqual(models[0])
    await expect(openai.models.retrieve('stabilityai/none')).rejects.toBeInstanceOf(NotFoundError)
  })

  test('throws its own error classes, which name the parameter', async () => {
    const failure = async (body: object): Promise<unknown> =>
      await openai.images.generate({ prompt, ...body }).then(
        () => undefined,
        (error: unknown) => error,
      )
    const bad = await failure({ size: '100x100' })
    expect(bad).toBeInstanceOf(BadRequestError)
    expect(bad).toMatchObject({ status: 400, type: 'invalid_request_error', param: 'size', code: 'invalid_value' })
    expect((bad as Error).message).toMatch(/size: expected a multiple of 16/)
    expect(bad).toMatchObject({ requestID: expect.any(String) as string })
    expect(await failure({ n: 11 })).toMatchObject({ status: 400, param: 'n' })
    expect(await failure({ mood: 'vivid' })).toMatchObject({ status: 400, param: 'mood', code: 'unknown_parameter' })
    expect(await failure({ prompt: undefined })).toMatchObject({ status: 400, param: 'prompt', code: 'missing_required_parameter' })
    expect(await failure({ model: 'none' })).toBeInstanceOf(NotFoundError)
    const stranger = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: 'not-a-key' })
    await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError)
    await expect(stranger.images.generate({ prompt })).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' })
  })

  test('gets the same pictures again for the same Idempotency-Key', async () => {
    const options = { headers: { 'Idempotency-Key': 'openai-1' } }
    const body = { prompt, response_format: 'url', num_inference_steps: 1 } as const
    const first = await openai.images.generate(body, options)
    expect((await openai.images.generate(body, options)).data).toEqual(first.data)
    const other = openai.images.generate({ ...body, prompt: 'another' }, options)
    await expect(other).rejects.toMatchObject({ status: 422, code: 'idempotency_mismatch' })
  })
})

describe('the replicate package', () => {
  test('runs a model by name and by version, waiting and polling', async () => {
    const seen: string[] = []
    const output = await replicate.run('local/tiny-scenes', { input: { prompt, ...small } }, ({ status }) => seen.push(status))
    expect(output).toHaveLength(1)
    expect(await fetchImage(String((output as unknown[])[0]))).toBe('png 128x128')
    expect(seen.at(-1)).toBe('succeeded')
    const wait = { mode: 'poll', interval: 50 } as const
    const input = { prompt, num_images_per_prompt: 2, width: 64, ...small }
    expect(await replicate.run('local/tiny-scenes:tiny-scenes', { input, wait })).toHaveLength(2)
  })

  test('continues by polling when the wait was too short', async () => {
    const seen: string[] = []
    const input = { prompt, width: 256, height: 256, ...medium }
    const wait = { mode: 'block', timeout: 1 } as const
    const output = await replicate.run('local/tiny-scenes', { input, wait }, ({ status }) => seen.push(status))
    expect(output).toHaveLength(1)
    expect(seen[0]).toBe('starting')
    expect(seen.at(-1)).toBe('succeeded')
  })

  test('creates, reads, lists and cancels predictions', async () => {
    const made = await replicate.predictions.create({ version: 'tiny-scenes', input: { prompt, width: 256, height: 256, ...long } })
    expect(made).toMatchObject({ model: 'local/tiny-scenes', version: 'tiny-scenes', status: 'starting', output: null, error: null })
    await vi.waitFor(
      async () => {
        const { status, logs } = await replicate.predictions.get(made.id)
        expect([status, parseProgressFromLogs(logs ?? '')?.total]).toEqual(['processing', 200])
      },
      { timeout: 60_000 },
    )
    await replicate.predictions.cancel(made.id)
    const ended = await replicate.wait(made, { interval: 50 })
    expect(ended).toMatchObject({ id: made.id, status: 'canceled' })
    expect(await replicate.predictions.cancel(made.id)).toMatchObject({ status: 'canceled' })
    const listed: Prediction[] = []
    for await (const page of replicate.paginate(() => replicate.predictions.list())) listed.push(...page)
    expect(listed.map(({ id }) => id)).toContain(made.id)
    await expect(replicate.predictions.get('0198c0de')).rejects.toThrow(/404/)
  })

  test('reads the model', async () => {
    const model = await replicate.models.get('local', 'tiny-scenes')
    expect(model).toMatchObject({ owner: 'local', name: 'tiny-scenes', latest_version: { id: 'tiny-scenes' } })
    await expect(replicate.models.get('nobody', 'nothing')).rejects.toThrow(/There is no model nobody\/nothing/)
  })

  test('accepts the signature of webhooks, whose body is the prediction', async () => {
    const secret = (await replicate.webhooks.default.secret.get()).key
    const made = await replicate.predictions.create({
      model: 'local/tiny-scenes',
      input: { prompt, ...small },
      webhook: receiver.url,
      webhook_events_filter: ['start', 'completed'],
    })
    const messages = await receiver.messagesOf(made.id, 2)
    for (const { headers, body } of messages) {
      const signed = { headers: headers as Record<string, string>, body }
      expect(await validateWebhook(new Request(receiver.url, { method: 'POST', ...signed }), secret)).toBe(true)
      expect(await validateWebhook(new Request(receiver.url, { method: 'POST', ...signed, body: `${body} ` }), secret)).toBe(false)
    }
    const bodies = messages.map(({ body }) => JSON.parse(body) as Prediction)
    const byStatus = Object.fromEntries(bodies.map((prediction) => [prediction.status, prediction]))
    expect(byStatus['processing']).toMatchObject({ output: null, completed_at: null })
    expect(byStatus['succeeded']).toEqual(await replicate.predictions.get(made.id))
  })

  test('throws errors that say in detail what is refused', async () => {
    const create = (input: object): Promise<Prediction> => replicate.predictions.create({ model: 'local/tiny-scenes', input })
    await expect(create({ prompt, width: 100 })).rejects.toThrow(/422 .*- input\.width: expected a multiple of 16/)
    await expect(create({ prompt: ' ' })).rejects.toThrow(/- input\.prompt: expected text that is not blank/)
    await expect(replicate.run('nobody/nothing', { input: { prompt } })).rejects.toThrow(/422 .*There is no model nobody\/nothing/)
    const stranger = new Replicate({ baseUrl: `${api.url}/v1`, auth: 'not-a-key' })
    await expect(stranger.predictions.list()).rejects.toThrow(/401 .*"title".*"detail"/)
  })
})

interface FalOutput {
  images: { url: string; width: number; height: number; content_type: string }[]
  seed: number
  prompt: string
}

describe('the fal client', () => {
  const input = { prompt, image_size: { width: 64, height: 96 }, num_images: 2, ...small }
  const longInput = { prompt, image_size: { width: 256, height: 256 }, num_images: 4, ...long }

  test('subscribes until there is a result, by polling and by a stream', async () => {
    for (const mode of ['polling', 'streaming'] as const) {
      const updates: QueueStatus[] = []
      const options = { input, logs: true, onQueueUpdate: (update: QueueStatus) => void updates.push(update) }
      const { data, requestId } = await fal.subscribe(
        'local/tiny-scenes',
        mode === 'polling' ? { ...options, mode, pollInterval: 50 } : { ...options, mode },
      )
      const { images, ...rest } = data as FalOutput
      expect(images).toHaveLength(2)
      expect(rest).toMatchObject({ seed: 7, prompt })
      expect(images.map(({ width, height, content_type }) => [width, height, content_type])).toEqual(
        images.map(() => [64, 96, 'image/png']),
      )
      expect(await fetchImage(images[1]?.url ?? '')).toBe('png 64x96')
      expect(requestId).toBe(updates[0]?.request_id)
      const last = updates.at(-1)
      expect(last?.status).toBe('COMPLETED')
      expect((last as { logs?: { message: string }[] }).logs?.at(-1)?.message).toBe('100%|██████████| 2/2')
    }
  })

  test('runs and waits in one request', async () => {
    const { data } = await fal.run('local/tiny-scenes', { input: { ...input, num_images: 1 } })
    expect((data as FalOutput).images).toHaveLength(1)
  })

  test('submits, asks for the status and cancels, after which there is no result', async () => {
    const submitted = await fal.queue.submit('local/tiny-scenes', { input: longInput })
    const requestId = submitted.request_id
    expect(submitted).toMatchObject({
      status: 'IN_QUEUE',
      status_url: `${api.url}/fal/queue/local/tiny-scenes/requests/${requestId}/status`,
    })
    await vi.waitFor(async () => expect((await fal.queue.status('local/tiny-scenes', { requestId })).status).toBe('IN_PROGRESS'), {
      timeout: 60_000,
    })
    await expect(fal.queue.result('local/tiny-scenes', { requestId })).rejects.toMatchObject({ status: 400 })
    await fal.queue.cancel('local/tiny-scenes', { requestId })
    const stream = await fal.queue.streamStatus('local/tiny-scenes', { requestId, logs: true })
    expect(await stream.done()).toMatchObject({ status: 'COMPLETED', error: 'The request was canceled.' })
    await expect(fal.queue.result('local/tiny-scenes', { requestId })).rejects.toMatchObject({
      status: 400,
      body: { detail: 'The request was canceled.' },
      requestId,
    })
    const finished = await fal.queue.submit('local/tiny-scenes', { input })
    await fal.queue.subscribeToStatus('local/tiny-scenes', { requestId: finished.request_id, pollInterval: 50 })
    const late = fal.queue.cancel('local/tiny-scenes', { requestId: finished.request_id })
    await expect(late).rejects.toMatchObject({ status: 400, body: { status: 'ALREADY_COMPLETED' } })
  })

  test('gets the result by its webhook', async () => {
    const { request_id: id } = await fal.queue.submit('local/tiny-scenes', { input, webhookUrl: receiver.url })
    const [message] = await receiver.messagesOf(id, 1)
    const { data } = await fal.queue.result('local/tiny-scenes', { requestId: id })
    expect(JSON.parse(message?.body ?? '')).toEqual({ request_id: id, gateway_request_id: id, status: 'OK', payload: data })
  })

  test('throws its own error classes', async () => {
    const refused = fal.subscribe('local/tiny-scenes', { input: { prompt, image_size: { width: 100, height: 64 } } })
    await expect(refused).rejects.toMatchObject({
      name: 'ValidationError',
      status: 422,
      fieldErrors: [
        { loc: ['body', 'image_size'], msg: expect.stringMatching(/^expected a multiple of 16/) as string, type: 'value_error' },
      ],
    })
    await expect(fal.queue.submit('nobody/nothing', { input: { prompt } })).rejects.toMatchObject({ name: 'ApiError', status: 404 })
    const stranger = createFalClient({ credentials: 'not-a-key', proxyUrl: { url: `${api.url}/fal/proxy`, when: 'always' } })
    await expect(stranger.queue.submit('local/tiny-scenes', { input })).rejects.toMatchObject({
      status: 401,
      body: { detail: expect.any(String) as string },
    })
  })
})

interface Receiver {
  readonly url: string
  readonly server: Server
  /** The messages of a job, as soon as there are that many. */
  messagesOf(id: string, count: number): Promise<{ headers: IncomingHttpHeaders; body: string }[]>
}

async function startReceiver(): Promise<Receiver> {
  const messages: { headers: IncomingHttpHeaders; body: string }[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      messages.push({ headers: request.headers, body: Buffer.concat(chunks).toString() })
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    server,
    async messagesOf(id, count) {
      return await vi.waitFor(
        () => {
          const those = messages.filter(({ body }) => body.includes(id))
          if (those.length < count) throw new Error(`Expected ${count} messages, got ${those.length}`)
          return those
        },
        { timeout: 60_000 },
      )
    },
  }
}
