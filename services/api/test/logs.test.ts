/** What api and worker, each a real process, write into their logs: the ids that a line is about, no secrets, and prompts only if configured. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { killProcesses, spawnWorkerProcess, startProcess, startWorkerProcess, untilStatus } from './start-process.ts'

interface LogLine {
  msg: string
  jobId?: string
  requestId?: string
  prompt?: string
  negative_prompt?: string
}

const secrets = {
  redis: 'password-of-redis',
  api: 'key-of-a-client',
  admin: 'key-of-the-operator',
  webhook: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
  url: 'token-of-a-receiver',
}
const prompts = { prompt: 'a red boat on the sea', negative_prompt: 'a green tree' }
const body = { ...prompts, num_inference_steps: 2, width: 64, height: 64 }

let redis: RedisServer
let connection: RedisConnection
let dir: string
beforeAll(async () => {
  redis = await startRedis({ args: ['--requirepass', secrets.redis] })
  connection = createRedis({ url: urlWith(secrets.redis), use: 'worker', onError: () => {} })
  dir = await mkdtemp(join(tmpdir(), 'easel-logs-'))
})
afterAll(async () => {
  killProcesses()
  connection?.disconnect()
  await redis?.stop()
  await rm(dir, { recursive: true, force: true })
})

const urlWith = (password: string): string => `redis://:${password}@127.0.0.1:${redis.port}`
const toLines = (text: string): LogLine[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as LogLine)

async function startBoth(more: Record<string, string>) {
  const env = { REDIS_URL: urlWith(secrets.redis), STORAGE: 'local', STORAGE_DIR: dir, LOG_LEVEL: 'trace', ...more }
  const worker = await startWorkerProcess({ ...env, MODELS_DIR: fileURLToPath(new URL('../../../models', import.meta.url)), DEVICE: 'cpu' })
  const keys = { API_KEYS: `client:${secrets.api}`, ADMIN_KEY: secrets.admin, WEBHOOK_SECRETS: secrets.webhook }
  const api = await startProcess({ ...env, ...keys, WEBHOOK_ALLOW_INSECURE: 'true' })
  await untilStatus(`${api.url}/readyz`, 200)
  const post = (path: string, sent: object, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(api.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${secrets.api}`, ...headers },
      body: JSON.stringify(sent),
    })
  // The lines of both services, without a line that is still being written.
  const whole = (text: string): string => text.slice(0, text.lastIndexOf('\n') + 1)
  return { api, post, output: () => whole(api.output()) + whole(worker.output()) }
}

test('lines about a job have its id and that of its request; no line contains a secret or a prompt, whatever goes wrong', async () => {
  const { api, post, output } = await startBoth({ QUEUE_PREFIX: '{quiet}', WEBHOOK_RETRY_DELAYS: '0,3600' })
  // Nobody listens there.
  const webhook = `http://127.0.0.1:9/hook?token=${secrets.url}`
  const submit = async (requestId: string, more: object, prefer = 'wait=60'): Promise<Job> =>
    (await (await post('/v1/jobs', { ...body, ...more }, { prefer, 'x-request-id': requestId })).json()) as Job
  const made = await submit('of-made', { webhook })
  const late = await submit('of-late', { num_inference_steps: 200, width: 256, height: 256, timeout: 1 })
  const canceled = await submit('of-canceled', { num_inference_steps: 200, width: 256, height: 256, num_images_per_prompt: 4 }, '')
  const saying = (id: string): string[] =>
    toLines(output())
      .filter(({ jobId }) => jobId === id)
      .map(({ msg }) => msg)
  await expect.poll(() => saying(canceled.id)).toContain('job started')
  await post(`/v1/jobs/${canceled.id}/cancel`, {}, { 'x-request-id': 'of-cancel' })
  await expect
    .poll(() => saying(canceled.id))
    .toEqual(expect.arrayContaining(['job queued', 'cancel accepted', 'job started', 'job ended']))
  await expect.poll(() => saying(made.id)).toContain('webhook not delivered')
  expect([made.status, late.error?.code]).toEqual(['succeeded', 'timeout'])

  const read = (path: string, key = secrets.api): Promise<Response> =>
    fetch(api.url + path, { headers: { authorization: `Bearer ${key}`, 'x-request-id': 'of-read' } })
  const requests = `/fal/queue/easel/tiny-scenes/requests/${made.id}`
  const paths = [`/v1/jobs/${made.id}`, `/v1/predictions/${made.id}`, requests, `${requests}/status`, `/images/${made.id}-0.png`]
  for (const path of paths) expect((await read(path)).status).toBe(200)
  expect((await read(`/v1/jobs/${made.id}/no-such-thing`)).status).toBe(404)
  expect((await read(`/v1/jobs/${made.id}`, 'not-a-key')).status).toBe(401)

  await post('/v1/jobs', body, { authorization: 'Bearer not-a-key' })
  await post('/v1/jobs', { ...body, webhook: `http://user:${secrets.url}@127.0.0.1:9` })
  await connection.config('SET', 'maxmemory', '1')
  expect((await post('/v1/jobs', { ...body, webhook }, { 'x-request-id': 'of-refused' })).status).toBe(503)
  await connection.config('SET', 'maxmemory', '0')

  const refused = (): string[] =>
    toLines(output())
      .filter(({ requestId }) => requestId === 'of-refused')
      .map(({ msg }) => msg)
  await expect.poll(refused).toEqual(['redis does not answer', 'request'])
  const lines = toLines(output())
  const requestsOf = { [made.id]: ['of-made', 'of-read'], [late.id]: ['of-late'], [canceled.id]: ['of-canceled', 'of-cancel'] }
  for (const [id, requestIds] of Object.entries(requestsOf)) {
    const about = lines.filter((line) => JSON.stringify(line).includes(id))
    expect(about).not.toEqual([])
    expect(about.filter(({ jobId, requestId }) => jobId !== id || !requestIds.includes(requestId ?? ''))).toEqual([])
  }
  const silent = [...Object.values(secrets), ...Object.values(prompts)]
  expect(silent.filter((text) => output().includes(text))).toEqual([])
})

test('with LOG_PROMPTS the lines about a job give its prompt and negative prompt, in both services', async () => {
  const { post, output } = await startBoth({ QUEUE_PREFIX: '{loud}', LOG_PROMPTS: 'true' })
  const job = (await (await post('/v1/jobs', body, { prefer: 'wait=60' })).json()) as Job
  expect(job.status).toBe('succeeded')
  const saying = (): object[] => toLines(output()).filter(({ prompt }) => prompt !== undefined)
  await expect.poll(saying).toMatchObject([
    { msg: 'job queued', jobId: job.id, ...prompts },
    { msg: 'job started', jobId: job.id, ...prompts },
  ])
})

test('a password that Redis refuses is not in the log that says so', async () => {
  const api = await startProcess({ REDIS_URL: urlWith('another-password') })
  await expect.poll(api.output).toContain('WRONGPASS')
  expect(api.output()).not.toContain('another-password')
})

test('a password that Redis quotes, as it quotes commands it does not know, is in the log of neither service', async () => {
  const quoting = await startRedis({ args: ['--rename-command', 'AUTH', 'A', '--rename-command', 'HELLO', 'H'] })
  try {
    const env = { REDIS_URL: `redis://:${secrets.redis}@127.0.0.1:${quoting.port}`, STORAGE: 'local', STORAGE_DIR: dir }
    const models = { MODELS_DIR: fileURLToPath(new URL('../../../models', import.meta.url)), DEVICE: 'cpu' }
    for (const { output } of [await startProcess(env), spawnWorkerProcess({ ...env, ...models })]) {
      await expect.poll(output, { timeout: 60_000 }).toContain("unknown command 'auth', with args beginning with: '[secret]'")
      expect(output()).not.toContain(secrets.redis)
    }
  } finally {
    killProcesses()
    await quoting.stop()
  }
})
