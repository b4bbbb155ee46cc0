import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders, Server, ServerResponse } from 'node:http'
import type { AddressInfo, LookupFunction } from 'node:net'
import { Queue, Worker } from 'bullmq'
import { Webhook } from 'standardwebhooks'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { generateQueueName, webhookBodySchema, webhookMessageId, webhookQueueName } from '@easel/contract'
import type { Problem, WebhookAttempt, WebhookBody, WebhookJobData } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import type { GenerateJobData, RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { sweepExpired } from '../maintenance/sweep-expired.ts'
import { deriveSecret } from './webhook-secret.ts'
import { startTestApi } from '../../test/start-api.ts'
import type { StartApiOptions, TestApi } from '../../test/start-api.ts'

const secrets = [1, 2].map((byte) => `whsec_${Buffer.alloc(32, byte).toString('base64')}`)

/** BullMQ may look for due messages only every few seconds. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 60_000 })

let redis: RedisServer
const closers: (() => Promise<void>)[] = []
let prefixes = 0

beforeAll(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})
afterAll(async () => {
  await redis.stop()
})

interface Delivered {
  headers: IncomingHttpHeaders
  text: string
  body: WebhookBody
}

interface Receiver {
  url: string
  delivered: Delivered[]
  connections: () => number
}

type Answer = number | { status: number; headers: Record<string, string> } | 'never'

/** Sends the answers in order, and the last one to all further requests. Every message must have a signature that `standardwebhooks` accepts. */
const startReceiver = async (...answers: Answer[]): Promise<Receiver> => await startReceiverOf(undefined, ...answers)

/** `owner`: whose messages are sent here, if there are several owners. */
async function startReceiverOf(owner: string | undefined, ...answers: Answer[]): Promise<Receiver> {
  const signers = owner === undefined ? secrets : secrets.map((secret) => deriveSecret(secret, owner))
  const delivered: Delivered[] = []
  let connections = 0
  const server: Server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      for (const secret of signers) new Webhook(secret).verify(text, request.headers as Record<string, string>)
      delivered.push({ headers: request.headers, text, body: webhookBodySchema.parse(JSON.parse(text)) })
      reply(response, answers[Math.min(delivered.length, answers.length) - 1] ?? 200)
    })
  })
  server.on('connection', () => connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(async () => {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, delivered, connections: () => connections }
}

function reply(response: ServerResponse, answer: Answer): void {
  if (answer === 'never') return
  if (typeof answer === 'number') response.writeHead(answer).end('ok')
  else response.writeHead(answer.status, answer.headers).end()
}

interface Setup {
  api: TestApi
  messages: Queue<WebhookJobData>
  /** Ends every job in the way that its prompt says. */
  startWorker: () => void
  submit: (webhook: string, over?: Record<string, unknown>) => Promise<string>
  attempts: (id: string) => Promise<WebhookAttempt[]>
}

async function setUp(options: StartApiOptions = {}): Promise<Setup> {
  const prefix = options.env?.['QUEUE_PREFIX'] ?? `{t${prefixes++}}`
  const env = {
    QUEUE_PREFIX: prefix,
    WEBHOOK_SECRETS: secrets.join(','),
    WEBHOOK_ALLOW_INSECURE: 'true',
    WEBHOOK_RETRY_DELAYS: '0,0.02,0.02',
    ...options.env,
  }
  const api = await startTestApi({ redis, ...options, env })
  const connection: RedisConnection = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  const messages = new Queue<WebhookJobData>(webhookQueueName, { connection, prefix })
  closers.push(async () => {
    await api.close()
    await messages.close()
    connection.disconnect()
  })
  const { store } = api.worker
  const process = async (id: string): Promise<void> => {
    const record = await store.get(id)
    if (record === undefined || (await store.start(id, 'w')).result !== 'running') return
    await api.deps.outbox.add(record, 'started')
    await store.progress(id, 1, 20)
    await api.deps.outbox.add(record, 'progress')
    if (record.input.prompt === 'fail') {
      await store.end(id, { status: 'failed', error: { code: 'engine_crashed', message: 'it crashed', retryable: false } })
    } else if (record.input.prompt === 'wait for cancel') {
      await eventually(() => store.isCancelRequested(id)).toBe(true)
      await store.end(id, { status: 'succeeded' })
    } else await api.worker.succeed(id)
  }
  return {
    api,
    messages,
    startWorker() {
      const options = { connection, prefix, concurrency: 20 }
      const worker = new Worker<GenerateJobData>(generateQueueName('tiny-scenes'), async (job) => await process(job.data.id), options)
      worker.on('error', () => {})
      closers.push(() => worker.close())
    },
    async submit(webhook, over = {}) {
      return (await api.submit({ webhook, ...over })).id
    },
    async attempts(id) {
      const response = await api.get(`/v1/jobs/${id}/webhooks`)
      // It is 503 while Redis is away.
      if (response.status !== 200) return []
      return ((await response.json()) as { attempts: WebhookAttempt[] }).attempts
    },
  }
}

/** Makes the message of the job's end due, which is waiting for its next attempt. */
async function makeDue(messages: Queue<WebhookJobData>, id: string): Promise<void> {
  await (await messages.getJob(webhookMessageId(id, 'completed')))?.promote()
}

describe('the message of the end', () => {
  test('arrives once, signed with every secret, and the attempt is listed', async () => {
    const receiver = await startReceiver()
    const { api, attempts, startWorker, submit } = await setUp()
    const id = await submit(receiver.url)
    startWorker()
    await eventually(() => attempts(id)).toHaveLength(1)
    expect(receiver.delivered).toHaveLength(1)
    const [message] = receiver.delivered
    expect(message?.headers).toMatchObject({ 'webhook-id': `msg_${id}_completed`, 'content-type': 'application/json' })
    expect(message?.body).toEqual({
      type: 'job.completed',
      timestamp: message?.body.data.completed_at,
      data: await (await api.get(`/v1/jobs/${id}`)).json(),
    })
    expect(await attempts(id)).toEqual([
      {
        message_id: `msg_${id}_completed`,
        event: 'completed',
        at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        duration_ms: expect.any(Number) as number,
        status: 200,
        ok: true,
        error: null,
      },
    ])
  })

  test('tells that the job failed, or was canceled while it was queued or running', async () => {
    const receiver = await startReceiver()
    const { api, startWorker, submit } = await setUp()
    const canceled = await submit(receiver.url)
    expect((await api.post(`/v1/jobs/${canceled}/cancel`)).status).toBe(200)
    expect((await api.post(`/v1/jobs/${canceled}/cancel`)).status).toBe(200)
    await eventually(() => receiver.delivered.length).toBe(1)
    const failed = await submit(receiver.url, { prompt: 'fail' })
    const running = await submit(receiver.url, { prompt: 'wait for cancel' })
    startWorker()
    await eventually(async () => (await api.worker.store.get(running))?.status).toBe('running')
    expect((await api.post(`/v1/jobs/${running}/cancel`)).status).toBe(202)
    await eventually(() => receiver.delivered.length).toBe(3)
    const told = Object.fromEntries(receiver.delivered.map(({ body }) => [body.data.id, body.data.status]))
    expect(told).toEqual({ [canceled]: 'canceled', [failed]: 'failed', [running]: 'canceled' })
  })

  test('arrives even if the job was canceled before it was in any queue', async () => {
    const receiver = await startReceiver()
    const { api, submit } = await setUp()
    const record = await api.worker.store.get(await submit(receiver.url))
    if (record === undefined) throw new Error('Expected a record, got none')
    const id = uuidv7()
    await api.worker.store.create({ ...record, id })
    expect((await api.post(`/v1/jobs/${id}/cancel`)).status).toBe(200)
    await eventually(() => receiver.delivered.map(({ body }) => [body.data.id, body.data.status])).toEqual([[id, 'canceled']])
  })

  test('waits until the record says that the job has ended, even if BullMQ has given the job up', async () => {
    const receiver = await startReceiver()
    const { api, messages, submit } = await setUp()
    const id = await submit(receiver.url)
    await api.deps.queues.remove('tiny-scenes', id)
    await eventually(async () => (await messages.getJob(webhookMessageId(id, 'completed')))?.getState()).toBe('delayed')
    expect(receiver.delivered).toEqual([])
    await api.worker.succeed(id)
    await eventually(() => receiver.delivered.map(({ body }) => body.data.status)).toEqual(['succeeded'])
  })
})

test('a webhook with a filter is told of every event that it names, with the job as it was at that time', async () => {
  const receiver = await startReceiver()
  const { api, startWorker, submit } = await setUp()
  const id = await submit(receiver.url, {
    prompt: 'wait for cancel',
    webhook_events_filter: ['queued', 'started', 'progress', 'completed'],
  })
  startWorker()
  await eventually(() => receiver.delivered.length).toBe(3)
  await api.post(`/v1/jobs/${id}/cancel`)
  await eventually(() => receiver.delivered.length).toBe(4)
  const told = receiver.delivered.map(({ body, headers }) => [
    headers['webhook-id'],
    [body.type, body.data.status, body.data.progress.step],
  ])
  expect(Object.fromEntries(told)).toEqual({
    [`msg_${id}_queued`]: ['job.queued', 'queued', 0],
    [`msg_${id}_started`]: ['job.started', 'running', 0],
    [`msg_${id}_progress_1`]: ['job.progress', 'running', 1],
    [`msg_${id}_completed`]: ['job.completed', 'canceled', 1],
  })
})

describe('a message that does not arrive', () => {
  test('is sent again with the same id until it arrives', async () => {
    const receiver = await startReceiver(500, { status: 302, headers: { Location: '/elsewhere' } }, 204)
    const { attempts, startWorker, submit } = await setUp()
    const id = await submit(receiver.url)
    startWorker()
    await eventually(() => attempts(id)).toHaveLength(3)
    expect(receiver.delivered.map(({ headers }) => headers['webhook-id'])).toEqual(Array(3).fill(`msg_${id}_completed`))
    expect((await attempts(id)).map(({ error, ok, status }) => [status, ok, error])).toEqual([
      [500, false, 'status 500'],
      [302, false, 'status 302: redirects are not followed'],
      [204, true, null],
    ])
  })

  test('is given up after the last attempt of the table, and can then be sent again on request, with the same id', async () => {
    const receiver = await startReceiver(500, 500, 500, 200)
    const { api, attempts, messages, startWorker, submit } = await setUp()
    const id = await submit(receiver.url)
    startWorker()
    const messageId = webhookMessageId(id, 'completed')
    await eventually(async () => (await messages.getJob(messageId))?.getState()).toBe('failed')
    expect(await attempts(id)).toHaveLength(3)
    const response = await api.post(`/v1/jobs/${id}/webhooks/redeliver`)
    expect(response.status).toBe(202)
    expect(await response.json()).toEqual({ message_id: messageId, event: 'completed' })
    await eventually(() => attempts(id)).toHaveLength(4)
    expect((await attempts(id))[3]).toMatchObject({ message_id: messageId, ok: true })
  })

  test('is not sent again after 410, not even on request', async () => {
    const receiver = await startReceiver(410, 200)
    const { api, attempts, messages, startWorker, submit } = await setUp()
    const id = await submit(receiver.url, { webhook_events_filter: ['queued', 'completed'] })
    await eventually(async () => (await messages.getJob(webhookMessageId(id, 'queued')))?.getState()).toBe('failed')
    startWorker()
    await expect
      .poll(async () => (await messages.getJob(webhookMessageId(id, 'completed')))?.returnvalue)
      .toBe('the receiver has answered 410')
    expect((await attempts(id)).map(({ status }) => status)).toEqual([410])
    const refused = await api.post(`/v1/jobs/${id}/webhooks/redeliver`)
    expect([refused.status, ((await refused.json()) as Problem).code]).toEqual([409, 'webhook_gone'])
    expect(receiver.delivered.map(({ body }) => body.type)).toEqual(['job.queued'])
  })

  test('is sent again on request only once in 30 s, for each job separately', async () => {
    const receiver = await startReceiver(500)
    const { api, attempts, startWorker, submit } = await setUp({ env: { WEBHOOK_RETRY_DELAYS: '0' } })
    const [id, other] = [await submit(receiver.url), await submit(receiver.url)]
    startWorker()
    for (const one of [id, other]) await eventually(() => attempts(one)).toHaveLength(1)
    const redeliver = async (one: string): Promise<Response> => await api.post(`/v1/jobs/${one}/webhooks/redeliver`)
    const answers = await Promise.all(Array.from({ length: 20 }, () => redeliver(id)))
    const refused = answers.filter(({ status }) => status === 429)
    expect([answers.filter(({ status }) => status === 202).length, refused.length]).toEqual([1, 19])
    for (const response of refused) {
      expect(Number(response.headers.get('Retry-After'))).toBeGreaterThan(0)
      expect(Number(response.headers.get('Retry-After'))).toBeLessThanOrEqual(30)
      expect(((await response.json()) as Problem).code).toBe('rate_limited')
    }
    const key = api.deps.store.keys.webhookRedelivery(id)
    expect(await api.deps.redis.pttl(key)).toBeGreaterThan(0)
    expect((await redeliver(other)).status).toBe(202)
    for (const one of [id, other]) await eventually(() => attempts(one)).toHaveLength(2)
    await api.deps.redis.del(key)
    expect((await redeliver(id)).status).toBe(202)
    await eventually(() => receiver.delivered.length).toBe(5)
  })

  test('is logged and counted once when it is given up', async () => {
    const receiver = await startReceiver(500)
    const { api, messages, startWorker, submit } = await setUp()
    using error = vi.spyOn(api.deps.logger, 'error')
    const id = await submit(receiver.url, { webhook_events_filter: ['queued', 'completed'] })
    startWorker()
    const givenUp = async (): Promise<string> =>
      /easel_webhooks_given_up_total (\d+)/.exec(await (await api.get('/metrics')).text())?.[1] ?? 'none'
    await eventually(givenUp).toBe('2')
    expect(await messages.getFailedCount()).toBe(2)
    expect(await api.deps.outbox.findUnsent(id, ['queued', 'completed'])).toEqual([])
    const lines = error.mock.calls.filter(([, text]) => text === 'webhook given up').map(([line]) => line)
    expect(lines).toHaveLength(2)
    expect(lines).toContainEqual({
      jobId: id,
      requestId: expect.any(String) as string,
      event: 'completed',
      attempts: 3,
      reason: 'status 500',
    })
  })

  test('waits as long as Retry-After says, and is sent at once on request', async () => {
    const receiver = await startReceiver({ status: 503, headers: { 'Retry-After': '3600' } }, 200)
    const { api, messages, startWorker, submit } = await setUp()
    const id = await submit(receiver.url)
    startWorker()
    const messageId = webhookMessageId(id, 'completed')
    await eventually(async () => (await messages.getJob(messageId))?.getState()).toBe('delayed')
    expect((await messages.getJob(messageId))?.delay).toBeGreaterThanOrEqual(3_600_000)
    expect((await api.post(`/v1/jobs/${id}/webhooks/redeliver`)).status).toBe(202)
    await eventually(() => receiver.delivered.length).toBe(2)
  })

  test('waits before its first attempt as long as the table says, unless it is requested', async () => {
    const receiver = await startReceiver()
    const { api, messages, submit } = await setUp({ env: { WEBHOOK_RETRY_DELAYS: '3600' } })
    const id = await submit(receiver.url, { webhook_events_filter: ['queued'] })
    const messageId = webhookMessageId(id, 'queued')
    await eventually(async () => await messages.getJobState(messageId)).toBe('delayed')
    expect((await messages.getJob(messageId))?.delay).toBeGreaterThanOrEqual(3_590_000)
    expect(receiver.delivered).toEqual([])
    const redeliver = async (): Promise<number> => (await api.post(`/v1/jobs/${id}/webhooks/redeliver`)).status
    expect(await redeliver()).toBe(202)
    await eventually(() => receiver.delivered.length).toBe(1)
    // It can be requested even after it has been delivered, and is then made again.
    await eventually(async () => await messages.getJobState(messageId)).toBe('completed')
    await api.deps.redis.del(api.deps.store.keys.webhookRedelivery(id))
    expect(await redeliver()).toBe(202)
    await eventually(() => receiver.delivered.length).toBe(2)
  })

  test('about progress is not sent again and does not count as given up, because the message of the next step takes its place', async () => {
    const receiver = await startReceiver(500)
    const { api, messages, startWorker, submit, attempts } = await setUp()
    using error = vi.spyOn(api.deps.logger, 'error')
    const id = await submit(receiver.url, { prompt: 'wait for cancel', webhook_events_filter: ['progress', 'completed'] })
    startWorker()
    await eventually(async () => (await attempts(id)).length).toBe(1)
    await eventually(async () => await messages.getJobState(webhookMessageId(id, 'progress'))).toBe('unknown')
    expect(await attempts(id)).toHaveLength(1)
    await api.post(`/v1/jobs/${id}/cancel`)
    const givenUp = (): unknown[] => error.mock.calls.filter(([, text]) => text === 'webhook given up').map(([line]) => line)
    await eventually(givenUp).toContainEqual(expect.objectContaining({ event: 'completed' }))
    expect(givenUp()).toHaveLength(1)
  })

  test('is sent again even if the api has been restarted in the meantime', async () => {
    const receiver = await startReceiver(500, 200)
    const env = { QUEUE_PREFIX: '{restarted}', WEBHOOK_RETRY_DELAYS: '0,3600' }
    const { messages, startWorker, submit } = await setUp({ env })
    const id = await submit(receiver.url)
    startWorker()
    await eventually(async () => await messages.getJobState(webhookMessageId(id, 'completed'))).toBe('delayed')
    for (const close of closers.splice(1).reverse()) await close()
    expect(receiver.delivered).toHaveLength(1)
    const restarted = await setUp({ env })
    await makeDue(restarted.messages, id)
    await eventually(() => receiver.delivered.length).toBe(2)
    expect(receiver.delivered[1]?.headers['webhook-id']).toBe(receiver.delivered[0]?.headers['webhook-id'])
  })

  test('because the api stopped during the attempt is sent again by the next api, and that attempt does not count', async () => {
    const receiver = await startReceiver('never', 200)
    const env = { QUEUE_PREFIX: '{stopped}', WEBHOOK_RETRY_DELAYS: '0' }
    const { startWorker, submit } = await setUp({ env })
    const id = await submit(receiver.url)
    startWorker()
    await eventually(() => receiver.delivered.length).toBe(1)
    for (const close of closers.splice(1).reverse()) await close()
    const { attempts } = await setUp({ env })
    await eventually(() => attempts(id)).toHaveLength(1)
    expect(await attempts(id)).toMatchObject([{ ok: true }])
  })
})

test('a message that Easel itself fails to handle is logged with the ids of its job and of the request that made the job', async () => {
  const { api, startWorker, submit } = await setUp()
  using error = vi.spyOn(api.deps.logger, 'error')
  const id = await submit('http://127.0.0.1:9/hook')
  await api.deps.redis.set(api.deps.store.keys.webhookAttempts(id), 'no list')
  startWorker()
  await eventually(() => error.mock.calls.length).toBeGreaterThan(0)
  const requestId = (await api.worker.store.get(id))?.requestId
  expect(requestId).toBeDefined()
  expect(error.mock.calls[0]).toMatchObject([{ jobId: id, requestId }, 'webhook message could not be handled'])
})

test('a message that waits for its next attempt survives a crash of Redis', async () => {
  const server = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  closers.push(() => server.stop())
  const receiver = await startReceiver(500, 200)
  const { attempts, messages, startWorker, submit } = await setUp({ redis: server, env: { WEBHOOK_RETRY_DELAYS: '0,3600' } })
  const id = await submit(receiver.url)
  startWorker()
  await eventually(async () => await messages.getJobState(webhookMessageId(id, 'completed'))).toBe('delayed')
  await server.kill()
  await server.restart()
  await makeDue(messages, id)
  await eventually(() => receiver.delivered.length).toBe(2)
  const [first, second] = receiver.delivered
  expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id'])
  await eventually(() => attempts(id)).toHaveLength(2)
})

test('a receiver that never answers holds up neither other receivers nor the jobs', async () => {
  const dead = await startReceiver('never')
  const alive = await startReceiver()
  const { attempts, startWorker, submit } = await setUp({ delivery: { places: 8, perOrigin: 2, timeoutMs: 600_000 } })
  for (let i = 0; i < 12; i++) await submit(dead.url)
  const id = await submit(alive.url)
  startWorker()
  await eventually(() => attempts(id)).toHaveLength(1)
  await eventually(() => dead.delivered).toHaveLength(2)
  expect(alive.delivered).toHaveLength(1)
})

test('messages that find no place wait for one, and each is sent once', async () => {
  const receiver = await startReceiver()
  const { messages, submit } = await setUp({ delivery: { places: 2 } })
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push(await submit(receiver.url, { webhook_events_filter: ['queued'] }))
  await eventually(() => receiver.delivered.map(({ body }) => body.data.id).toSorted()).toEqual(ids.toSorted())
  await eventually(async () => await messages.getCompletedCount()).toBe(5)
  expect(receiver.delivered).toHaveLength(5)
})

test('an owner whose receivers never answer, however many there are, does not keep another owner waiting', async () => {
  const dead = await Promise.all(Array.from({ length: 10 }, () => startReceiverOf('bad', 'never')))
  const other = await startReceiverOf('good', 'never')
  const { api, startWorker } = await setUp({
    env: { API_KEYS: 'bad:first-secret,good:second-secret' },
    delivery: { places: 8, perOrigin: 2, timeoutMs: 600_000 },
  })
  const post = async (webhook: string, key: string): Promise<string> => {
    const response = await api.post('/v1/jobs', { prompt: 'p', webhook }, { 'X-API-Key': key })
    expect(response.status).toBe(202)
    return ((await response.json()) as { id: string }).id
  }
  for (let i = 0; i < 60; i++) await post(dead[i % 10]?.url ?? '', 'first-secret')
  startWorker()
  const sent = (): number => dead.reduce((sum, receiver) => sum + receiver.connections(), 0)
  // These are half of the places, and one owner gets no more.
  await eventually(sent).toBe(4)
  await eventually(() => api.worker.store.count('bad', 'succeeded')).toBe(60)
  const id = await post(other.url, 'second-secret')
  await eventually(() => other.delivered).toHaveLength(1)
  // It was sent when it was first examined, while all those attempts were still under way.
  const { config, redis } = api.deps
  expect(await redis.hget(`${config.queuePrefix}:${webhookQueueName}:${webhookMessageId(id, 'completed')}`, 'ats')).toBe('1')
  expect(sent()).toBe(4)
})

describe('a message whose job is past its retention', () => {
  test('is tried until the end of the table, with the same body, and its attempts stay readable for as long', async () => {
    const receiver = await startReceiver(500, 500, 200)
    let ahead = 0
    const { api, attempts, messages, startWorker, submit } = await setUp({
      env: { RESULT_TTL: '3600', WEBHOOK_RETRY_DELAYS: '0,3600,3600' },
      now: () => Date.now() + ahead,
    })
    const id = await submit(receiver.url)
    const delivered = await submit((await startReceiver()).url, { webhook_events_filter: ['started'] })
    startWorker()
    await eventually(() => attempts(id)).toHaveLength(1)
    const messageId = webhookMessageId(id, 'completed')
    await eventually(async () => (await messages.getJob(messageId))?.getState()).toBe('delayed')
    ahead = 3_660_000
    expect((await api.get(`/v1/jobs/${id}`)).status).toBe(410)
    expect(await attempts(id)).toHaveLength(1)
    await sweepExpired(api.deps)
    expect(await api.deps.store.get(id)).toBeUndefined()
    expect(await attempts(id)).toHaveLength(1)
    ahead = 0

    for (const count of [2, 3]) {
      await eventually(async () => await messages.getJobState(messageId)).toBe('delayed')
      await makeDue(messages, id)
      await eventually(() => attempts(id)).toHaveLength(count)
    }
    const [first, second, third] = receiver.delivered.filter(({ body }) => body.data.id === id)
    expect([second?.text, third?.text]).toEqual([first?.text, first?.text])
    expect(new Set([first, second, third].map((message) => message?.headers['webhook-id']))).toEqual(new Set([messageId]))
    expect((await attempts(id)).map(({ ok }) => ok)).toEqual([false, false, true])
    expect((await api.get(`/v1/jobs/${delivered}/webhooks`)).status).toBe(404)
  })

  test('is given up after the last attempt, and its attempts are hidden from other owners', async () => {
    const receiver = await startReceiverOf('alice', 500)
    let ahead = 0
    const { api, messages, startWorker } = await setUp({
      env: { RESULT_TTL: '3600', WEBHOOK_RETRY_DELAYS: '0,3600', API_KEYS: 'alice:first-secret,bob:second-secret' },
      now: () => Date.now() + ahead,
    })
    using error = vi.spyOn(api.deps.logger, 'error')
    const alice = { 'X-API-Key': 'first-secret' }
    const { id } = (await (await api.post('/v1/jobs', { prompt: 'p', webhook: receiver.url }, alice)).json()) as { id: string }
    startWorker()
    const messageId = webhookMessageId(id, 'completed')
    await eventually(async () => (await messages.getJob(messageId))?.getState()).toBe('delayed')
    ahead = 3_660_000
    await sweepExpired(api.deps)
    ahead = 0
    const read = async (headers: Record<string, string>): Promise<number> => (await api.get(`/v1/jobs/${id}/webhooks`, { headers })).status
    expect([await read(alice), await read({ 'X-API-Key': 'second-secret' })]).toEqual([200, 404])
    await makeDue(messages, id)
    await eventually(() => error.mock.calls.map(([, text]) => text)).toContain('webhook given up')
    expect(await messages.getJobState(messageId)).toBe('failed')
  })
})

test('an answer that comes too late counts as a failed attempt, and the message is sent again', async () => {
  const receiver = await startReceiver('never', 200)
  // On a busy machine a later answer may be too late as well, so there are many attempts.
  const { attempts, startWorker, submit } = await setUp({
    env: { WEBHOOK_RETRY_DELAYS: `0${',0.02'.repeat(9)}` },
    delivery: { timeoutMs: 100 },
  })
  const id = await submit(receiver.url)
  startWorker()
  await eventually(async () => (await attempts(id)).at(-1)?.ok).toBe(true)
  const late = (await attempts(id)).slice(0, -1).map(({ error, ok }) => [ok, error])
  expect(late.length).toBeGreaterThan(0)
  expect(late).toEqual(late.map(() => [false, 'no answer within 0.1 s']))
})

describe('a receiver that is not public', () => {
  test.each([
    ['http://example.com/', 'an https:// URL'],
    ['https://127.0.0.1/', 'a URL with a public host'],
    ['https://[::ffff:10.0.0.1]/', 'a URL with a public host'],
    ['https://169.254.169.254/latest/', 'a URL with a public host'],
    ['https://100.64.0.1/', 'a URL with a public host'],
    ['https://me:secret@example.com/', 'a URL without user name and password'],
    ['not a url', 'an absolute URL'],
  ])('is refused at submit if its URL is %s', async (webhook, expected) => {
    const { api } = await setUp({ env: { WEBHOOK_ALLOW_INSECURE: 'false' } })
    const response = await api.post('/v1/jobs', { prompt: 'p', webhook })
    expect(response.status).toBe(422)
    expect((await response.json()) as Problem).toMatchObject({ code: 'invalid_request', errors: [{ field: 'webhook', expected }] })
    expect(await api.worker.store.count('', 'queued')).toBe(0)
  })

  test('is refused when connecting if a public name resolves to it by then', async () => {
    const receiver = await startReceiver()
    const lookup: LookupFunction = (_host, options, callback) => {
      if (options.all === true) callback(null, [{ address: '127.0.0.1', family: 4 }])
      else callback(null, '127.0.0.1', 4)
    }
    const { attempts, startWorker, submit } = await setUp({ env: { WEBHOOK_ALLOW_INSECURE: 'false' }, delivery: { lookup } })
    const id = await submit(receiver.url.replace('http://127.0.0.1', 'https://hooks.example.com'))
    startWorker()
    await eventually(() => attempts(id)).toHaveLength(3)
    expect((await attempts(id)).map(({ error }) => error)).toEqual(Array(3).fill('address not allowed'))
    expect(receiver.connections()).toBe(0)
  })
})

describe('the attempts of a job', () => {
  test('are shown to those who may see the job; a job without a webhook or an event has nothing to send again', async () => {
    const receiver = await startReceiver()
    const { api, submit } = await setUp()
    const plain = (await api.submit()).id
    const waiting = await submit(receiver.url)
    expect(await (await api.get(`/v1/jobs/${plain}/webhooks`)).json()).toEqual({ attempts: [] })
    for (const id of [plain, waiting, uuidv7(), 'nonsense']) {
      expect((await api.post(`/v1/jobs/${id}/webhooks/redeliver`)).status).toBe(404)
    }
    const record = await api.worker.store.get(waiting)
    if (record === undefined) throw new Error('Expected a record, got none')
    // Both have a message that can be sent again.
    const [own, foreign] = [uuidv7(), uuidv7()]
    await api.worker.store.create({ ...record, id: own, webhookEventsFilter: ['queued'] })
    await api.worker.store.create({ ...record, id: foreign, owner: 'someone else', webhookEventsFilter: ['queued'] })
    expect((await api.get(`/v1/jobs/${foreign}/webhooks`)).status).toBe(404)
    expect((await api.post(`/v1/jobs/${foreign}/webhooks/redeliver`)).status).toBe(404)
    expect(receiver.delivered).toEqual([])
    expect((await api.post(`/v1/jobs/${own}/webhooks/redeliver`)).status).toBe(202)
    await eventually(() => receiver.delivered.map(({ body }) => body.data.id)).toEqual([own])
    // Of several events, the latest is sent again.
    const ended = uuidv7()
    await api.worker.store.create({ ...record, id: ended, webhookEventsFilter: ['queued', 'completed'] })
    await api.worker.succeed(ended)
    expect(await (await api.post(`/v1/jobs/${ended}/webhooks/redeliver`)).json()).toMatchObject({ event: 'completed' })
    await eventually(() => receiver.delivered.map(({ body }) => body.type)).toEqual(['job.queued', 'job.completed'])
  })

  test('are in the description of the api', async () => {
    const { api } = await setUp()
    const { paths } = (await (await api.get('/openapi.json')).json()) as { paths: Record<string, unknown> }
    expect(Object.keys(paths)).toEqual(expect.arrayContaining(['/v1/jobs/{id}/webhooks', '/v1/jobs/{id}/webhooks/redeliver']))
  })
})
