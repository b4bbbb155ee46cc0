import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { readEvents } from '../../test/read-events.ts'
import type { ReceivedEvent } from '../../test/read-events.ts'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { createApp } from '../app.ts'

let api: TestApi
let replica: TestApi
beforeAll(async () => {
  api = await startTestApi()
  replica = await startTestApi({ redis: api.redis })
})
afterAll(async () => {
  await replica.close()
  await api.close()
})
afterEach(async () => {
  // If a reader leaks, this hook times out.
  while (api.deps.follower.readers + replica.deps.follower.readers > 0) await sleep(5)
})

const events = (id: string, lastEventId?: string, at = api): Promise<Response> =>
  at.get(`/v1/jobs/${id}/events`, { headers: lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId } })

async function createJob(): Promise<string> {
  return (await api.submit({ num_inference_steps: 4 })).id
}

async function runJob(id: string): Promise<void> {
  const { store } = api.worker
  await store.start(id, 'w')
  await store.progress(id, 1, 4)
  await store.preview(id, { step: 1, image: 0, dataUrl: 'data:image/jpeg;base64,AA==' })
  await store.progress(id, 4, 4)
  await api.worker.succeed(id)
}

describe('an event stream', () => {
  test('tells everything that happens, and finally the job as a poll shows it', async () => {
    const id = await createJob()
    const response = await events(id)
    expect(response.status).toBe(200)
    expect(response.headers.get('Content-Type')).toMatch(/^text\/event-stream/)
    expect(response.headers.get('Cache-Control')).toBe('no-store')
    const reading = Array.fromAsync(readEvents(response))
    await runJob(id)
    const received = await reading
    expect(received.map(({ event }) => event)).toEqual(['status', 'status', 'progress', 'preview', 'progress', 'done'])
    expect(received.slice(0, 5).map(({ data }) => data)).toEqual([
      { status: 'queued' },
      { status: 'running' },
      { step: 1, total: 4 },
      { step: 1, image: 0, data_url: 'data:image/jpeg;base64,AA==' },
      { step: 4, total: 4 },
    ])
    expect(received[5]?.data).toEqual(await (await api.get(`/v1/jobs/${id}`)).json())
    expect(received[5]?.data).toMatchObject({ status: 'succeeded', output: { images: [{ content_type: 'image/png' }] } })
  })

  test('gives a late follower the same events, at any replica', async () => {
    const id = await createJob()
    const reading = events(id).then((response) => Array.fromAsync(readEvents(response)))
    await runJob(id)
    const early = await reading
    const late = await Array.fromAsync(readEvents(await events(id, undefined, replica)))
    expect(late.map((event) => event.id)).toEqual(early.map((event) => event.id))
  })

  test('continues at another replica, without a gap or a repetition, for a client whose connection broke', async () => {
    const id = await createJob()
    const first: ReceivedEvent[] = []
    const leaving = new AbortController()
    const response = await api.get(`/v1/jobs/${id}/events`, { signal: leaving.signal })
    await api.worker.store.start(id, 'w')
    await api.worker.store.progress(id, 1, 4)
    for await (const event of readEvents(response)) if (first.push(event) === 3) break
    leaving.abort()
    await api.worker.store.progress(id, 2, 4)
    const second = events(id, first.at(-1)?.id, replica).then((resumed) => Array.fromAsync(readEvents(resumed)))
    await api.worker.store.progress(id, 3, 4)
    await api.worker.succeed(id)
    const all = [...first, ...(await second)]
    expect(all.map(({ event, data }) => (event === 'progress' ? (data as { step: number }).step : event))).toEqual([
      'status',
      'status',
      1,
      2,
      3,
      4,
      'done',
    ])
    expect((await events(id, all.at(-1)?.id, replica)).status).toBe(204)
  })

  test('leaves no reader behind when its client disconnects, however long the job goes on', async () => {
    const id = await createJob()
    const leaving = new AbortController()
    const responses = await Promise.all(Array.from({ length: 20 }, () => api.get(`/v1/jobs/${id}/events`, { signal: leaving.signal })))
    expect(responses.map((response) => response.status)).toEqual(Array<number>(20).fill(200))
    await expect.poll(() => api.deps.follower.readers).toBe(20)
    leaving.abort()
    await expect.poll(() => api.deps.follower.readers).toBe(0)
    await api.worker.store.start(id, 'w')
    expect((await api.get(`/v1/jobs/${id}`)).status).toBe(200)
  })

  test('answers HEAD with the headers of GET, without following the job', async () => {
    const job = await api.submit()
    const before = api.deps.follower.readers
    const response = await api.get(`/v1/jobs/${job.id}/events`, { method: 'HEAD' })
    expect([response.status, response.headers.get('Content-Type')]).toEqual([200, 'text/event-stream'])
    expect(api.deps.follower.readers).toBe(before)
  })

  test('sends signs of life while nothing happens', async () => {
    const id = await createJob()
    const app = createApp(api.deps, { eventHeartbeatMs: 10 })
    const response = await app.request(`/v1/jobs/${id}/events`)
    const signs: string[] = []
    // The first event may come before, between or after them.
    for await (const { event } of readEvents(response)) if (event === ':' && signs.push(event) === 3) break
    expect(signs).toEqual([':', ':', ':'])
  })

  test('tells the place of a waiting job in the queue, and again when it changes', async () => {
    const first = await createJob()
    const id = await createJob()
    const response = await events(id)
    const places: unknown[] = []
    for await (const { event, data } of readEvents(response, { queue: true })) {
      if (event !== 'queue') continue
      const { queue_position: place } = data as { queue_position: number | null }
      if (places.push(place) === 2) break
      await api.post(`/v1/jobs/${first}/cancel`)
    }
    expect(places).toEqual([Number(places[1]) + 1, expect.any(Number)])
  })

  test('ends with done when the job is canceled', async () => {
    const id = await createJob()
    const reading = events(id).then((response) => Array.fromAsync(readEvents(response)))
    await expect.poll(() => api.deps.follower.readers).toBe(1)
    await api.post(`/v1/jobs/${id}/cancel`)
    expect((await reading).at(-1)).toMatchObject({ event: 'done', data: { id, status: 'canceled' } })
  })

  test('ends when its api stops', async () => {
    const followWhileStopping = async (): Promise<string[]> => {
      const stopping = await startTestApi({ redis: api.redis })
      const { id } = await stopping.submit()
      const received: string[] = []
      const reading = (async () => {
        for await (const { event } of readEvents(await events(id, undefined, stopping))) received.push(event)
        received.push('end')
      })().catch((error: unknown) => received.push(String(error)))
      await expect.poll(() => received).toEqual(['status'])
      await stopping.close()
      await reading
      return received
    }
    // A process that stands still for longer than the last answers may take cuts the stream off.
    await expect.poll(followWhileStopping).toEqual(['status', 'end'])
  })

  test('is refused for an invalid Last-Event-ID, and for a job that does not exist', async () => {
    const id = await createJob()
    for (const bad of ['x', '1', '-', '1-1-1', '99999999999999999999-0', '(1-1']) {
      const response = await events(id, bad)
      expect(response.status).toBe(422)
      expect(await response.json()).toMatchObject({ code: 'invalid_request', errors: [{ field: 'Last-Event-ID' }] })
    }
    expect((await events('nothing')).status).toBe(404)
    expect((await events('01980000-0000-7000-8000-000000000000')).status).toBe(410)
  })
})
