/** What a client that waits for a job gets when the api is told to stop: in every dialect, and whether or not the job ends in time. */
import { createFalClient } from '@fal-ai/client'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(async () => await redis.stop())

const owned = 'local/tiny-scenes'
const wait = { Prefer: 'wait=60' }

/** A waiting request in every dialect, each with a job of its own. */
async function waitEverywhere(api: TestApi) {
  const { id: polled } = await api.submit()
  const { id: followed } = await api.submit()
  const { id: streamed } = await api.submit()
  const requests = {
    submit: api.post('/v1/jobs', { prompt: 'a' }, wait),
    poll: api.get(`/v1/jobs/${polled}`, { headers: wait }),
    events: api.get(`/v1/jobs/${followed}/events`),
    openai: api.post('/v1/images/generations', { prompt: 'a', response_format: 'url' }),
    openaiStream: api.post('/v1/images/generations', { prompt: 'a', stream: true }),
    replicate: api.post(`/v1/models/${owned}/predictions`, { input: { prompt: 'a' } }, wait),
    falRun: api.post(`/fal/run/${owned}`, { prompt: 'a' }),
    falStream: api.get(`/fal/queue/${owned}/requests/${streamed}/status/stream`),
    diffusers: api.post('/api/diffusers/inference', { prompt: 'a' }),
  }
  const answers = Object.fromEntries(
    Object.entries(requests).map(([name, request]) => [
      name,
      request.then(async (response) => ({ response, text: await response.text() })),
    ]),
  )
  await expect.poll(() => api.deps.follower.readers, { timeout: 60_000 }).toBe(Object.keys(requests).length)
  const answerOf = async (name: keyof typeof requests): Promise<{ response: Response; text: string; json: () => unknown }> => {
    const answer = await answers[name]
    if (answer === undefined) throw new Error(`Expected an answer to ${name}`)
    return { ...answer, json: () => JSON.parse(answer.text) as unknown }
  }
  return { answerOf, ids: (await api.worker.store.list('', { status: 'queued', limit: 100 })).map(({ id }) => id) }
}

test('a job that ends within the grace is answered as usual', async () => {
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{in-time}', SHUTDOWN_GRACE: '60' } })
  const { answerOf, ids } = await waitEverywhere(api)
  const closed = api.close()
  await expect.poll(() => api.deps.stopping.aborted).toBe(true)
  for (const id of ids) await api.worker.succeed(id)
  await closed
  for (const [name, status] of [
    ['submit', 200],
    ['poll', 200],
    ['events', 200],
    ['openai', 200],
    ['openaiStream', 200],
    ['replicate', 201],
    ['falRun', 200],
    ['falStream', 200],
    ['diffusers', 200],
  ] as const) {
    expect([name, (await answerOf(name)).response.status]).toEqual([name, status])
  }
  expect((await answerOf('submit')).json()).toMatchObject({ status: 'succeeded' })
  expect((await answerOf('events')).text).toContain('event: done')
  expect((await answerOf('openaiStream')).text).toContain('event: image_generation.completed')
  expect((await answerOf('falStream')).text).toContain('"COMPLETED"')
})

test('a job that has not ended when the grace is over is never reported as a success, even by a process that was held up until later', async () => {
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{too-late}', SHUTDOWN_GRACE: '1' } })
  const { answerOf } = await waitEverywhere(api)
  const closed = api.close()
  // Longer than the grace and the time for the last answers together.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3500)
  await closed

  const submit = await answerOf('submit')
  expect([submit.response.status, submit.json()]).toMatchObject([202, { status: 'queued' }])
  expect([(await answerOf('poll')).response.status, (await answerOf('poll')).json()]).toMatchObject([200, { status: 'queued' }])
  // A client reconnects by itself when there was no `done`.
  expect((await answerOf('events')).text).not.toContain('event: done')
  // The `run` of Replicate's client takes any other status for the end.
  expect([(await answerOf('replicate')).response.status, (await answerOf('replicate')).json()]).toMatchObject([202, { status: 'starting' }])
  for (const [name, body] of [
    ['openai', { error: { type: 'server_error', code: 'stopping' } }],
    ['falRun', { detail: expect.stringContaining('is stopping') as string }],
    ['diffusers', { code: 'stopping', retryable: true }],
  ] as const) {
    const { response, json } = await answerOf(name)
    expect([name, response.status, json()]).toMatchObject([name, 503, body])
    expect(response.headers.get('location')).toMatch(/^\/v1\/jobs\//)
    expect([response.headers.get('retry-after'), response.headers.get('x-should-retry')]).toEqual(['1', null])
  }
  const events = (await answerOf('openaiStream')).text
  expect(events).toContain('event: error')
  expect(events).toContain('"code":"stopping"')
  expect((await answerOf('falStream')).text).toMatch(/event: error\ndata: The stream ends/)
})

test('the clients of OpenAI and fal throw when their stream ends before the job has', async () => {
  const api = await startTestApi({ redis, env: { QUEUE_PREFIX: '{clients}', SHUTDOWN_GRACE: '1' } })
  const openai = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: 'none', maxRetries: 0 })
  const fal = createFalClient({ credentials: 'none', proxyUrl: { url: `${api.url}/fal/proxy`, when: 'always' } })
  const settled = Promise.allSettled([
    openai.images.generate({ prompt: 'a', stream: true }).then(async (stream) => await Array.fromAsync(stream)),
    fal.subscribe(owned, { input: { prompt: 'a' }, mode: 'streaming' }),
  ])
  await expect.poll(() => api.deps.follower.readers, { timeout: 60_000 }).toBe(2)
  await api.close()
  expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
})
