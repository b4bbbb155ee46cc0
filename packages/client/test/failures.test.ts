/**
 * What a caller sees when things go wrong: lost answers, interrupted streams, limits, outages, jobs that fail. The api and Redis are real, and the
 * api is reached through a port that breaks connections. The worker is simulated, so that a job stands still as long as a test wants.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { startLossyConnection, type LossyConnection } from '../../job-store/test/lossy-connection.ts'
import { startRedis, type RedisServer } from '../../job-store/test/redis-server.ts'
import { startTestApi, type StartApiOptions, type TestApi } from '../../../services/api/test/start-api.ts'
import {
  ConnectionError,
  Easel,
  EaselError,
  InvalidRequestError,
  NotFoundError,
  RateLimitError,
  ServerError,
  type EaselOptions,
  type FollowedEvent,
} from '../src/index.ts'

const prompt = 'a red boat on the sea'

let redis: RedisServer
let api: TestApi
let lossy: LossyConnection
let easel: Easel
let prefixes = 0

beforeAll(async () => {
  redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  api = await startTestApi({ redis })
  lossy = await startLossyConnection(Number(new URL(api.url).port))
  easel = toClient()
})
afterAll(async () => {
  await lossy?.close()
  await api?.close()
  await redis?.stop()
})
afterEach(async () => {
  await Promise.all((await jobIds()).map(async (id) => await api.worker.store.delete(id)))
})

const toClient = (options: EaselOptions = {}): Easel => new Easel({ baseUrl: `http://${lossy.host}`, ...options })
const jobIds = async (): Promise<string[]> => (await api.worker.store.list('public', { limit: 1000 })).map(({ id }) => id)
const thrownBy = async (call: Promise<unknown>): Promise<unknown> =>
  await call.then(
    () => 'nothing',
    (error: unknown) => error,
  )

/** A `fetch` that records how it was called. */
function noteRequests() {
  const requests: { at: number; path: string; key: string | null }[] = []
  const noting: typeof fetch = async (input, init) => {
    requests.push({ at: Date.now(), path: new URL(new Request(input).url).pathname, key: new Headers(init?.headers).get('authorization') })
    return await fetch(input, init)
  }
  return { requests, fetch: noting }
}

/** A second api beside the file's own, until the test ends. */
async function startOther(options: StartApiOptions): Promise<TestApi> {
  const other = await startTestApi({ redis, ...options, env: { QUEUE_PREFIX: `{other${prefixes++}}`, ...options.env } })
  onTestFinished(async () => await other.close())
  return other
}

/** A server that is not Easel, until the test ends. */
async function listen(server: ReturnType<typeof createTcpServer>): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('an answer that is lost', () => {
  test('of create: the request is sent again and there is one job', async () => {
    lossy.loseNextReply()
    const lost = lossy.lost
    const job = await easel.create({ prompt })
    expect(lossy.lost).toBe(lost + 1)
    expect(await jobIds()).toEqual([job.id])
  })

  test('of create, after which the caller repeats the request with a key of its own: there is one job, too', async () => {
    lossy.loseNextReply()
    const once = { retries: 0, idempotencyKey: 'order-17' }
    expect(await thrownBy(easel.create({ prompt }, once))).toBeInstanceOf(ConnectionError)
    const job = await easel.create({ prompt }, once)
    expect(await jobIds()).toEqual([job.id])
    expect(await thrownBy(easel.create({ prompt: 'something else' }, once))).toMatchObject({ code: 'idempotency_mismatch', status: 422 })
    // Without a key, two calls make two jobs.
    await easel.create({ prompt })
    expect(await jobIds()).toHaveLength(2)
  })

  test('of cancel and of delete: what was asked for is done and reported as done', async () => {
    const { id } = await easel.create({ prompt })
    lossy.loseNextReply()
    expect(await easel.cancel(id)).toMatchObject({ id, status: 'canceled' })
    lossy.loseNextReply()
    await easel.delete(id)
    expect(await jobIds()).toEqual([])
  })

  test('of wait: it continues to wait', async () => {
    const { id } = await easel.create({ prompt })
    const waiting = easel.wait(id)
    await expect.poll(() => api.deps.follower.readers).toBeGreaterThan(0)
    lossy.cut()
    await api.worker.succeed(id)
    expect(await waiting).toMatchObject({ id, status: 'succeeded' })
  })

  test('again and again: after so many retries there is an error', async () => {
    const nobody = createTcpServer((socket) => socket.destroy())
    const baseUrl = await listen(nobody)
    const error = await thrownBy(new Easel({ baseUrl, retries: 2 }).get('x'))
    expect(error).toBeInstanceOf(ConnectionError)
    expect(error).toMatchObject({ code: 'unreachable', retryable: true, status: undefined, attempts: 3, name: 'ConnectionError' })
    expect((error as Error).message).toMatch(new RegExp(`^No answer from ${baseUrl}: .+`))
    expect((error as Error).cause).toBeInstanceOf(Error)
  })
})

describe('events', () => {
  test('continue where they were when the connection is cut: each one comes once, in order', async () => {
    const { id } = await easel.create({ prompt })
    await api.worker.store.start(id, 'w')
    const sent = noteRequests()
    const seen: (FollowedEvent | number | string)[] = []
    for await (const event of toClient({ fetch: sent.fetch }).events(id)) {
      if (event.type === 'queue') continue
      seen.push(event.type === 'progress' ? event.step : event.type === 'status' ? event.status : event)
      // The connection breaks after each event, and the next event happens while there is no connection.
      lossy.cut()
      const next = seen.length - 1
      if (next === 4) await api.worker.succeed(id)
      else if (next > 0 && next < 4) await api.worker.store.progress(id, next, 20)
    }
    expect(seen).toEqual(['queued', 'running', 1, 2, 3, 20, { type: 'done', job: await easel.get(id) }])
    // Two events may come before the connection has broken.
    expect(sent.requests.length).toBeGreaterThan(3)
  })

  test('that stay silent for longer than the limit are requested again', async () => {
    const { id } = await easel.create({ prompt })
    const sent = noteRequests()
    const following = Array.fromAsync(toClient({ fetch: sent.fetch, timeoutMs: 300, retries: Infinity }).events(id))
    await expect.poll(() => sent.requests.length).toBeGreaterThan(2)
    await api.worker.succeed(id)
    const types = (await following).map(({ type }) => type).filter((type) => type !== 'queue')
    expect(types).toEqual(['status', 'status', 'progress', 'done'])
  })

  test('of a job that was deleted meanwhile or never existed end with a NotFoundError', async () => {
    const { id } = await easel.create({ prompt })
    const following = thrownBy(Array.fromAsync(easel.events(id)))
    await expect.poll(() => api.deps.follower.readers).toBeGreaterThan(0)
    await api.worker.store.delete(id)
    expect(await following).toMatchObject({ name: 'NotFoundError', code: 'not_found', status: 404 })
    expect(await thrownBy(Array.fromAsync(easel.events(id)))).toMatchObject({ name: 'NotFoundError', attempts: 1 })
    // The end arrives, and the record is deleted before it is read.
    const baseUrl = await listen(
      createServer((request, response) => {
        if (request.url !== '/v1/jobs/x/events') return response.writeHead(404).end()
        return response.writeHead(200).end('id: 1-0\nevent: done\ndata: {"id":"x","status":"canceled"}\n\n')
      }),
    )
    expect(await thrownBy(Array.fromAsync(new Easel({ baseUrl }).events('x')))).toMatchObject({ name: 'NotFoundError', status: 404 })
  })

  test('are given up after so many failures in a row', async () => {
    const { id } = await easel.create({ prompt })
    const gone = await startLossyConnection(Number(new URL(api.url).port))
    const following = new Easel({ baseUrl: `http://${gone.host}`, retries: 1 }).events(id)
    expect((await following.next()).value).toMatchObject({ type: 'status' })
    await gone.close()
    // Other events may have arrived before the connection broke.
    expect(await thrownBy(Array.fromAsync(following))).toMatchObject({ name: 'ConnectionError', attempts: 2 })
  })
})

describe('a service that cannot take a request now', () => {
  test('is asked again when it said, and not before', async () => {
    const limited = await startOther({ env: { RATE_LIMIT: '1/2' } })
    const sent = noteRequests()
    const patient = new Easel({ baseUrl: limited.url, fetch: sent.fetch })
    let refused: unknown
    // On a slow machine the allowance may be there again before the next request.
    while (!(refused instanceof RateLimitError)) refused = await thrownBy(patient.usage({ retries: 0 }))
    const { retryAfterSeconds = 0 } = refused
    expect(refused).toMatchObject({ code: 'rate_limited', status: 429, retryable: true, attempts: 1 })
    expect(retryAfterSeconds).toBeGreaterThanOrEqual(1)
    do {
      sent.requests.length = 0
      await patient.usage()
    } while (sent.requests.length < 2)
    const [first, second] = sent.requests.map(({ at }) => at) as [number, number]
    // What it asked for is at least a second; timers may be a little early.
    expect(second - first).toBeGreaterThan(900)
  })

  test('is asked again until it can: create succeeds once Redis is back', async () => {
    await redis.kill()
    const refused = await thrownBy(easel.create({ prompt }, { retries: 0 }))
    expect(refused).toBeInstanceOf(ServerError)
    expect(refused).toMatchObject({ code: 'queue_unavailable', status: 503, retryAfterSeconds: 5 })
    const creating = easel.create({ prompt })
    await redis.restart()
    const { id } = await creating
    expect(await jobIds()).toEqual([id])
  })

  test('is not asked again when it cannot meet the deadline', async () => {
    const error = await thrownBy(easel.create({ prompt, deadline: '2026-01-01T00:00:00Z' }))
    expect(error).toMatchObject({ name: 'RateLimitError', code: 'deadline_unreachable', retryable: true, attempts: 1 })
  })

  test('says so when there has never been a worker', async () => {
    const idle = await startOther({ model: null })
    const patient = new Easel({ baseUrl: idle.url })
    expect(await thrownBy(patient.create({ prompt }, { retries: 0 }))).toMatchObject({
      name: 'ServerError',
      code: 'no_worker',
      status: 503,
    })
  })
})

describe('a signal', () => {
  const reason = new Error('enough')

  test('that is aborted already sends nothing', async () => {
    const sent = noteRequests()
    const own = toClient({ fetch: sent.fetch })
    const options = { signal: AbortSignal.abort(reason) }
    const calls = [
      () => own.create({ prompt }, options),
      () => own.run({ prompt }, options),
      () => own.wait('x', options),
      () => own.get('x', options),
      () => own.cancel('x', options),
      () => own.delete('x', options),
      () => own.replay('x', options),
      () => own.upload(new Uint8Array(1), options),
      () => own.listPage(options),
      () => own.list(options).next(),
      () => own.events('x', options).next(),
      () => own.capabilities(options),
      () => own.usage(options),
      () => own.images.bytes({ url: `${api.url}/images/x.png` }, options),
      () => own.images.toFile({ url: `${api.url}/images/x.png` }, '/nowhere/x.png', options),
    ]
    for (const call of calls) expect(await thrownBy(call())).toBe(reason)
    expect(sent.requests).toEqual([])
  })

  test('ends a wait, an event stream and a pause between attempts at once, and leaves the job alone', async () => {
    const { id } = await easel.create({ prompt })
    const leaving = new AbortController()
    const { signal } = leaving
    const nobody = new Easel({ baseUrl: await listen(createTcpServer((socket) => socket.destroy())), retries: Infinity })
    const calls = [easel.wait(id, { signal }), Array.fromAsync(easel.events(id, { signal })), nobody.get('x', { signal })].map(thrownBy)
    await expect.poll(() => api.deps.follower.readers).toBe(2)
    leaving.abort(reason)
    expect(await Promise.all(calls)).toEqual([reason, reason, reason])
    await expect.poll(() => api.deps.follower.readers).toBe(0)
    expect(await easel.get(id)).toMatchObject({ status: 'queued' })
  })

  test('that ends a run cancels its job, which nobody else knows about', async () => {
    const leaving = new AbortController()
    const running = thrownBy(easel.run({ prompt }, { signal: leaving.signal }))
    await expect.poll(() => api.deps.follower.readers).toBeGreaterThan(0)
    leaving.abort(reason)
    expect(await running).toBe(reason)
    await expect.poll(async () => (await easel.listPage()).jobs.map(({ status }) => status)).toEqual(['canceled'])
  })
})

test('a service that accepts connections and never answers is given up after the time limit', async () => {
  const baseUrl = await listen(createTcpServer(() => {}))
  const error = await thrownBy(new Easel({ baseUrl, timeoutMs: 50, retries: 1 }).capabilities())
  expect(error).toBeInstanceOf(ConnectionError)
  expect(error).toMatchObject({ message: `No answer from ${baseUrl}: nothing arrived for 0.05 s.`, attempts: 2 })
})

describe('an error', () => {
  test.each<[typeof EaselError, (easel: Easel) => Promise<unknown>, Partial<EaselError>]>([
    [NotFoundError, (easel) => easel.get('nothing'), { code: 'not_found', status: 404 }],
    [NotFoundError, (easel) => easel.get('01890000-0000-7000-8000-000000000000'), { code: 'expired', status: 410 }],
    [InvalidRequestError, (easel) => easel.create({ prompt: ' ', width: 100 }), { code: 'invalid_request', status: 422, field: 'prompt' }],
    [InvalidRequestError, (easel) => easel.create({ prompt, model: 'other' }), { code: 'model_not_found', status: 422, field: 'model' }],
    [InvalidRequestError, (easel) => easel.upload(Buffer.from('no picture')), { code: 'invalid_image', status: 422, field: 'file' }],
    [InvalidRequestError, (easel) => easel.create({ prompt: 'x'.repeat(2_000_000) }), { code: 'body_too_large', status: 413 }],
  ])('is a $0.name with code, status and field', async (kind, call, expected) => {
    const error = await thrownBy(call(easel))
    expect(error).toBeInstanceOf(kind)
    expect(error).toBeInstanceOf(EaselError)
    expect(error).toMatchObject({ name: kind.name, attempts: 1, retryable: false, ...expected })
    expect((error as EaselError).requestId).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('names every refused field, with what was expected and what was received', async () => {
    const error = (await thrownBy(easel.create({ prompt: ' ', width: 100 }))) as EaselError
    expect(error.errors.map(({ field }) => field)).toEqual(['prompt', 'width'])
    expect(error.errors[1]).toEqual({ field: 'width', expected: expect.stringContaining('16') as string, received: '100' })
  })

  test('is an AuthenticationError without the right key', async () => {
    const locked = await startOther({ env: { API_KEYS: 'ann:secret-of-ann' } })
    for (const apiKey of [undefined, 'wrong']) {
      const stranger = new Easel({ baseUrl: locked.url, ...(apiKey !== undefined && { apiKey }) })
      expect(await thrownBy(stranger.usage())).toMatchObject({ name: 'AuthenticationError', code: 'unauthorized', status: 401 })
    }
    expect(await new Easel({ baseUrl: locked.url, apiKey: 'secret-of-ann' }).usage()).toMatchObject({ owner: 'ann' })
  })

  test('is a ConflictError when the job to be canceled has ended', async () => {
    const { id } = await easel.create({ prompt })
    await api.worker.succeed(id)
    expect(await thrownBy(easel.cancel(id))).toMatchObject({ name: 'ConflictError', code: 'job_finished', status: 409 })
  })

  test('is a JobFailedError or a JobCanceledError, with the job, when a run has no pictures', async () => {
    const failing = thrownBy(easel.run({ prompt }))
    await expect.poll(jobIds).toHaveLength(1)
    const [failed = ''] = await jobIds()
    await api.worker.store.end(failed, {
      status: 'failed',
      error: { code: 'out_of_memory', message: 'It was too large.', retryable: true },
    })
    expect(await failing).toMatchObject({
      name: 'JobFailedError',
      code: 'out_of_memory',
      retryable: true,
      status: undefined,
      message: `Job ${failed} failed: It was too large.`,
      job: { id: failed, status: 'failed' },
    })
    expect(await easel.wait(failed)).toMatchObject({ status: 'failed', error: { code: 'out_of_memory' } })

    const canceling = thrownBy(easel.run({ prompt }))
    await expect.poll(jobIds).toHaveLength(2)
    const canceled = (await jobIds()).find((id) => id !== failed) ?? ''
    await easel.cancel(canceled)
    expect(await canceling).toMatchObject({ name: 'JobCanceledError', code: 'canceled', job: { id: canceled } })
  })

  test('says so when the address is not that of an Easel', async () => {
    const baseUrl = await listen(
      createServer((request, response) => {
        const status = request.url === '/v1/usage' ? 404 : 200
        response.writeHead(status, { 'content-type': 'text/html' }).end('<p>Welcome')
      }),
    )
    const other = new Easel({ baseUrl })
    expect(await thrownBy(other.capabilities())).toMatchObject({
      name: 'EaselError',
      code: 'unknown',
      status: 200,
      message: `Expected JSON, got text/html from ${baseUrl}/v1/capabilities. Is that the address of an Easel?`,
    })
    expect(await thrownBy(other.usage())).toMatchObject({ name: 'NotFoundError', code: 'unknown', message: 'The server answered 404.' })
  })
})

test('the key is sent to the service, and not to where its pictures are', async () => {
  const sent = noteRequests()
  const own = toClient({ fetch: sent.fetch, apiKey: 'a-secret' })
  const { id } = await own.create({ prompt })
  await api.worker.succeed(id)
  const job = await own.wait(id)
  if (job.status !== 'succeeded') throw new Error(`Expected success, got ${job.status}`)
  await own.images.bytes(job.output.images[0])
  expect(sent.requests.map(({ path, key }) => [path, key])).toEqual([
    ['/v1/jobs', 'Bearer a-secret'],
    [`/v1/jobs/${id}`, 'Bearer a-secret'],
    [`/images/${id}-0.png`, null],
  ])
})

test('options that make no sense are refused immediately', () => {
  const bad: [EaselOptions, RegExp][] = [
    [{ baseUrl: 'localhost:8500' }, /Expected baseUrl to begin with http:\/\/ or https:\/\/, got localhost:8500/],
    [{ baseUrl: '/easel' }, /Expected baseUrl/],
    [{ timeoutMs: 0 }, /Expected timeoutMs to be a number from 1, got 0/],
    [{ retries: -1 }, /Expected retries to be a number from 0, got -1/],
    [{ retries: Number.NaN }, /Expected retries/],
  ]
  for (const [options, sentence] of bad) expect(() => new Easel(options)).toThrow(sentence)
})
