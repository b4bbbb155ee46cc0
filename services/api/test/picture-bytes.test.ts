/** Where the bytes of an input picture go: into the store, and into no record, event, webhook message, answer or log line. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRedis } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { uniquePng } from './pictures.ts'
import { killProcesses, startProcess, startWorkerProcess, untilStatus } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

let redis: RedisServer
let connection: RedisConnection
let dir: string
let receiver: Server
let url: string
let processes: ServiceProcess[]
/** The complete bodies of all webhook messages. */
const messages: string[] = []

beforeAll(async () => {
  redis = await startRedis()
  connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  dir = await mkdtemp(join(tmpdir(), 'easel-bytes-'))
  receiver = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    request.on('end', () => {
      messages.push(text)
      response.writeHead(200).end()
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  const env = { REDIS_URL: redis.url, STORAGE: 'local', STORAGE_DIR: dir, LOG_LEVEL: 'trace', LOG_PROMPTS: 'true' }
  const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))
  const [worker, api] = await Promise.all([
    startWorkerProcess({ ...env, MODELS_DIR: modelsDir, DEVICE: 'cpu' }),
    startProcess({ ...env, WEBHOOK_ALLOW_INSECURE: 'true' }),
  ])
  processes = [worker, api]
  url = api.url
  await untilStatus(`${url}/readyz`, 200)
})
afterAll(async () => {
  killProcesses()
  connection?.disconnect()
  receiver?.close()
  receiver?.closeAllConnections()
  await redis?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Everything in Redis, as text. */
async function readRedis(): Promise<string> {
  const read: Record<string, (key: string) => Promise<unknown>> = {
    string: async (key) => (await connection.getBuffer(key))?.toString('latin1'),
    hash: (key) => connection.hgetall(key),
    list: (key) => connection.lrange(key, 0, -1),
    set: (key) => connection.smembers(key),
    zset: (key) => connection.zrange(key, 0, '-1'),
    stream: (key) => connection.xrange(key, '-', '+'),
  }
  const all: unknown[] = []
  for (const key of await connection.keys('*')) all.push(key, await read[await connection.type(key)]?.(key))
  return JSON.stringify(all)
}

test('a picture that comes with a request, in whatever way, is kept only in the store', async () => {
  const [picture, mask] = [await uniquePng(), await uniquePng()]
  const [image, maskUrl] = [picture, mask].map((bytes) => `data:image/png;base64,${bytes.toString('base64')}`) as [string, string]
  const webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`
  const small = { prompt: 'a red boat', num_inference_steps: 4, width: 64, height: 64 }
  const answers: string[] = []
  const send = async (path: string, body: object | FormData, headers: Record<string, string> = {}): Promise<string> => {
    const isForm = body instanceof FormData
    const response = await fetch(url + path, {
      method: 'POST',
      headers: { ...(!isForm && { 'content-type': 'application/json' }), prefer: 'wait=60', ...headers },
      body: isForm ? body : JSON.stringify(body),
    })
    const text = await response.text()
    answers.push(text)
    expect([path, response.ok, response.ok ? '' : text]).toEqual([path, true, ''])
    return (
      response.headers.get('location')?.split('/').at(-1) ?? (JSON.parse(text) as { id?: string; request_id?: string }).request_id ?? ''
    )
  }
  const events = { webhook, webhook_events_filter: ['queued', 'started', 'progress', 'completed'], preview_every: 2 }
  const form = new FormData()
  form.append('image', new File([new Uint8Array(picture)], 'picture.png'))
  for (const [name, value] of Object.entries({ prompt: 'a', size: '64x64', num_inference_steps: '4' })) form.append(name, value)
  const { width: _width, height: _height, ...input } = small
  const ids = [
    await send('/v1/jobs', { ...small, image, mask: maskUrl, ...events }, { 'idempotency-key': 'bytes' }),
    await send('/v1/predictions', { version: 'local/tiny-scenes', input: { ...input, image, mask: maskUrl }, webhook }),
    await send(`/fal/queue/local/tiny-scenes?fal_webhook=${encodeURIComponent(webhook)}`, {
      ...input,
      image_url: image,
      mask_url: maskUrl,
    }),
    await send('/v1/images/edits', form),
  ]
  // A refused picture is not mentioned either.
  const refused = await fetch(`${url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...small, width: 63, image: image.slice(0, -400), mask: maskUrl }),
  })
  expect(refused.status).toBe(422)
  answers.push(await refused.text())
  const hasBeenTold = (id: string): boolean => messages.some((text) => text.includes(id) && /job\.completed|"succeeded"|"OK"/.test(text))
  await expect.poll(() => ids.slice(0, 3).filter(hasBeenTold), { timeout: 60_000 }).toEqual(ids.slice(0, 3))
  for (const id of ids) {
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`, `/v1/jobs/${id}/webhooks`, `/v1/predictions/${id}`])
      answers.push(await (await fetch(url + path)).text())
  }
  const told = {
    answers: answers.join('\n'),
    messages: messages.join('\n'),
    redis: await readRedis(),
    log: processes.map(({ output }) => output()).join('\n'),
  }
  // Wherever a picture is mentioned, its hash stands for it.
  expect(told.redis).toContain('"image":{"sha256":'.replaceAll('"', '\\"'))
  for (const bytes of [picture, mask]) {
    const marks = [40, bytes.length - 300].flatMap((at) => {
      const part = bytes.subarray(at - (at % 3), at - (at % 3) + 60)
      return [part.toString('base64'), part.toString('hex'), part.toString('latin1'), JSON.stringify(part.toString('latin1')).slice(1, -1)]
    })
    expect(bytes.toString('base64')).toContain(marks[0])
    for (const [where, text] of Object.entries(told)) expect([where, marks.filter((mark) => text.includes(mark))]).toEqual([where, []])
  }
})
