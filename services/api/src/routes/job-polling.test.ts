import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ env: { PREFER_WAIT_MAX: '20' } })
})
afterAll(() => api.close())
afterEach(async () => {
  // If a reader leaks, this hook times out.
  while (api.deps.follower.readers > 0) await sleep(5)
})

const read = (id: string, headers: Record<string, string> = {}): Promise<Response> => api.get(`/v1/jobs/${id}`, { headers })
const create = (headers: Record<string, string>): Promise<Response> => api.post('/v1/jobs', { prompt: 'p' }, headers)

async function finishNext(): Promise<void> {
  await expect.poll(() => api.deps.follower.readers).toBe(1)
  const [job] = await api.worker.store.list('', { status: 'queued', limit: 1 })
  await api.worker.succeed(job?.id ?? '')
}

describe('a request with Prefer: wait', () => {
  test('that submits a job is answered with 200 and the pictures if the job ends in time', async () => {
    const [response] = await Promise.all([create({ Prefer: 'wait=20' }), finishNext()])
    expect(response.status).toBe(200)
    expect(response.headers.get('Preference-Applied')).toBe('wait=20')
    expect(response.headers.get('Retry-After')).toBeNull()
    expect(await response.json()).toMatchObject({ status: 'succeeded', output: { images: [{ seed: expect.any(Number) as number }] } })
  })

  test('that submits a job is answered with 202 and the job if it does not end in time', async () => {
    for (const prefer of ['wait=0', 'wait=1', 'respond-async, wait="0"']) {
      const response = await create({ Prefer: prefer })
      expect(response.status).toBe(202)
      expect(response.headers.get('Retry-After')).toBe('1')
      expect(response.headers.get('Location')).toBe(`/v1/jobs/${((await response.json()) as Job).id}`)
    }
  })

  test('that reads a job waits as well, and is answered with 200 in either case', async () => {
    const { id } = await api.submit()
    const early = await read(id, { Prefer: 'wait=0' })
    expect([early.status, early.headers.get('Retry-After'), early.headers.get('Preference-Applied')]).toEqual([200, '1', 'wait=0'])
    const [late] = await Promise.all([read(id, { Prefer: 'wait' }), finishNext()])
    expect([late.status, late.headers.get('Retry-After'), late.headers.get('Preference-Applied')]).toEqual([200, null, 'wait=20'])
    expect(await late.json()).toMatchObject({ id, status: 'succeeded' })
  })

  test('waits no longer than the server allows, and not at all if the value makes no sense', async () => {
    const { id } = await api.submit()
    await api.worker.succeed(id)
    expect((await read(id, { Prefer: 'wait=9999' })).headers.get('Preference-Applied')).toBe('wait=20')
    expect((await read(id, { Prefer: 'wait=soon' })).headers.get('Preference-Applied')).toBeNull()
  })

  test('stops waiting when its client disconnects', async () => {
    const { id } = await api.submit()
    const leaving = new AbortController()
    const waiting = api.get(`/v1/jobs/${id}`, { headers: { Prefer: 'wait=20' }, signal: leaving.signal })
    await expect.poll(() => api.deps.follower.readers).toBe(1)
    leaving.abort()
    await expect(waiting).rejects.toThrow('aborted')
    await expect.poll(() => api.deps.follower.readers).toBe(0)
  })

  test('that submits a job is told its id even if Redis goes away during the wait', async () => {
    const lonely = await startTestApi({ env: { PREFER_WAIT_MAX: '2' } })
    const waiting = lonely.post('/v1/jobs', { prompt: 'p' }, { Prefer: 'wait=2' })
    await expect.poll(() => lonely.deps.follower.readers).toBe(1)
    await lonely.redis.kill()
    const response = await waiting
    expect(response.status).toBe(202)
    expect(await response.json()).toMatchObject({ status: 'queued', id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string })
    await lonely.close()
  })

  test('is answered when the api stops', async () => {
    const readWhileStopping = async (): Promise<number | string> => {
      const stopping = await startTestApi({ redis: api.redis })
      const { id } = await stopping.submit()
      const status = stopping.get(`/v1/jobs/${id}`, { headers: { Prefer: 'wait=60' } }).then((response) => response.status, String)
      await expect.poll(() => stopping.deps.follower.readers).toBe(1)
      await stopping.close()
      return await status
    }
    // A process that stands still for longer than the last answers may take cuts them off.
    await expect.poll(readWhileStopping).toBe(200)
  })
})

describe('the ETag of a job', () => {
  test('changes with everything that happens to the job, and until then a poll is answered with 304', async () => {
    const { id } = await api.submit({ num_inference_steps: 4 })
    const tags = new Set<string>()
    const poll = async (): Promise<void> => {
      const etag = (await read(id)).headers.get('ETag') ?? ''
      tags.add(etag)
      const again = await read(id, { 'If-None-Match': `"other", ${etag}` })
      expect([again.status, again.headers.get('ETag'), await again.text()]).toEqual([304, etag, ''])
    }
    await poll()
    await api.worker.store.start(id, 'w')
    await poll()
    await api.worker.store.progress(id, 1, 4)
    await poll()
    await api.worker.store.progress(id, 2, 4)
    await poll()
    await api.worker.succeed(id)
    await poll()
    expect(tags.size).toBe(5)
    expect((await read(id, { 'If-None-Match': '"other"' })).status).toBe(200)
    expect((await read(id, { 'If-None-Match': '*' })).status).toBe(304)
  })
})
