/**
 * The whole service for fault tests, every part a process of its own: Redis that flushes every write, an api, workers with
 * models/tiny-scenes, a folder of pictures, and a webhook receiver that checks signatures. `close()` ends all of it.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Webhook } from 'standardwebhooks'
import { isEnded, webhookBodySchema } from '@easel/contract'
import type { Job } from '@easel/contract'
import { startRedis } from '@easel/job-store/test/redis-server'
import { killProcesses, startProcess, startWorkerProcess, untilStatus } from './start-process.ts'
import type { ApiProcess, ServiceProcess } from './start-process.ts'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

type Answer = 200 | 500 | 'never'

interface Delivered {
  /** `webhook-id` of the message. */
  messageId: string
  jobId: string
  type: string
  status: string
  /** What the receiver answered. */
  answer: Answer
}

interface PostOptions {
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** A job that takes many seconds on a CPU, so that it still runs when a test that was held up breaks something. */
export const longBody = { prompt: 'a red boat on the sea', seed: 42, num_inference_steps: 150, width: 192, height: 192 }

/** A job that takes minutes on a CPU, to be canceled. */
export const endlessBody = { ...longBody, num_inference_steps: 200, width: 256, height: 256, num_images_per_prompt: 4 }

export type Service = Awaited<ReturnType<typeof startService>>

export async function startService(apiEnv: Record<string, string> = {}) {
  const redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  const dir = await mkdtemp(join(tmpdir(), 'easel-service-'))
  const receiver = await startReceiver()
  const shared = { REDIS_URL: redis.url, STORAGE: 'local', STORAGE_DIR: dir }
  const env = {
    ...shared,
    WEBHOOK_SECRETS: secret,
    WEBHOOK_ALLOW_INSECURE: 'true',
    WEBHOOK_RETRY_DELAYS: '0,2,2,2',
    SHUTDOWN_GRACE: '1',
    ...apiEnv,
  }
  const startApi = async (): Promise<ApiProcess> => {
    const started = await startProcess(env)
    await untilStatus(`${started.url}/livez`, 200)
    return started
  }
  let api = await startApi()

  const get = (path: string, init?: RequestInit): Promise<Response> => fetch(api.url + path, init)
  const post = (path: string, body: unknown, { headers, signal }: PostOptions = {}): Promise<Response> =>
    get(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: signal ?? null,
    })
  const job = async (id: string): Promise<Job> => {
    const response = await get(`/v1/jobs/${id}`)
    if (response.status !== 200) throw new Error(`Expected 200 for the job, got ${response.status}: ${await response.text()}`)
    return (await response.json()) as Job
  }
  const until = async (id: string, condition: (job: Job) => boolean): Promise<Job> => {
    for (;;) {
      const seen = await job(id)
      if (condition(seen)) return seen
      await sleep(50)
    }
  }

  return {
    /** The process that runs now. */
    get api() {
      return api
    },
    redis,
    get,
    post,
    job,
    until,
    untilEnded: (id: string): Promise<Job> => until(id, ({ status }) => isEnded(status)),
    /** A URL for a job's `webhook`. The first messages about the job are answered as asked: with 500, or never. */
    webhook: receiver.url,
    /** The messages with a valid signature, in order of arrival. One with an invalid signature is answered with 401 and not listed. */
    delivered: receiver.delivered,

    async startWorker(env: Record<string, string> = {}): Promise<ServiceProcess> {
      const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))
      return await startWorkerProcess({ ...shared, MODELS_DIR: modelsDir, DEVICE: 'cpu', JOB_LOCK_DURATION: '2', ...env })
    },

    /** Kills the api as a crash would, and starts another one. */
    async replaceApi(): Promise<void> {
      api.child.kill('SIGKILL')
      await api.ended
      api = await startApi()
    },

    /** Submits a job, which must be accepted, and returns its id. */
    async submit(body: Record<string, unknown>): Promise<string> {
      const response = await post('/v1/jobs', body)
      if (response.status !== 202) throw new Error(`Expected 202, got ${response.status}: ${await response.text()}`)
      return ((await response.json()) as Job).id
    },

    /** How many times the event stream reports the end. */
    async countEnds(id: string): Promise<number> {
      const text = await (await get(`/v1/jobs/${id}/events`)).text()
      return text.split('\n').filter((line) => line === 'event: done').length
    },

    async close(): Promise<void> {
      killProcesses()
      await redis.stop()
      await receiver.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function startReceiver() {
  const delivered: Delivered[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      const headers = request.headers as Record<string, string>
      try {
        new Webhook(secret).verify(text, headers)
      } catch {
        response.writeHead(401).end()
        return
      }
      const { type, data } = webhookBodySchema.parse(JSON.parse(text))
      const first = (new URL(request.url ?? '', 'http://receiver').searchParams.get('first') ?? '').split(',')
      const earlier = delivered.filter(({ jobId }) => jobId === data.id).length
      const answer = toAnswer(first[earlier])
      delivered.push({ messageId: headers['webhook-id'] ?? '', jobId: data.id, type, status: data.status, answer })
      if (answer !== 'never') response.writeHead(answer).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: (...first: Answer[]): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?first=${first.join()}`,
    delivered,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

function toAnswer(text: string | undefined): Answer {
  return text === 'never' ? text : text === '500' ? 500 : 200
}
