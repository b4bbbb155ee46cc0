import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

describe('an api with keys', () => {
  let api: TestApi
  beforeAll(async () => {
    api = await startTestApi({ env: { API_KEYS: 'alice:alice-secret,bob-bob-secret' } })
  })
  afterAll(() => api.close())
  const alice = { Authorization: 'Bearer alice-secret' }
  const bob = { 'X-API-Key': 'bob-bob-secret' }

  test('answers a request without one of its keys with 401 and a challenge', async () => {
    for (const headers of [
      {},
      { Authorization: 'Bearer wrong-secret' },
      { Authorization: 'alice-secret' },
      { Authorization: 'Basic alice-secret' },
    ]) {
      const response = await api.get('/v1/jobs/x', { headers })
      expect(response.status).toBe(401)
      expect(response.headers.get('WWW-Authenticate')).toBe('Bearer realm="easel"')
      expect(await response.json()).toMatchObject({ code: 'unauthorized', retryable: false })
    }
  })

  test('accepts every way in which clients send a key', async () => {
    for (const headers of [
      alice,
      bob,
      { Authorization: 'bearer  alice-secret' },
      { Authorization: 'Key alice-secret' },
      { Authorization: 'Token bob-bob-secret' },
      { 'x-api-key': 'alice-secret' },
    ] as Record<string, string>[]) {
      expect((await api.get('/v1/capabilities', { headers })).status).toBe(200)
    }
  })

  test('leaves health, metrics, its description and images open, and nothing else', async () => {
    for (const path of ['/livez', '/readyz', '/metrics', '/openapi.json', '/images/x.png'])
      expect((await api.get(path)).status).not.toBe(401)
    for (const path of ['/v1/jobs', '/v1/capabilities', '/images', '/x/../v1/jobs']) expect((await api.get(path)).status).toBe(401)
    expect((await api.post('/api/diffusers/inference', { prompt: 'p' })).status).toBe(401)
  })

  test('lets a browser send a preflight request without a key', async () => {
    const headers = {
      Origin: 'https://example.com',
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'authorization',
    }
    expect((await api.get('/v1/jobs', { method: 'OPTIONS', headers })).status).toBe(204)
  })

  test('describes how to send a key', async () => {
    const description = (await (await api.get('/openapi.json')).json()) as {
      security: unknown
      components: { securitySchemes: object }
      paths: Record<string, Record<string, { security?: unknown }>>
    }
    expect(description.security).toEqual([{ bearer: [] }, { header: [] }])
    expect(Object.keys(description.components.securitySchemes)).toEqual(['bearer', 'header'])
    const open = Object.entries(description.paths).filter(([, methods]) =>
      Object.values(methods).every(({ security }) => security !== undefined),
    )
    expect(open.map(([path]) => path).toSorted()).toEqual(['/', '/fal/storage/{ticket}', '/images/{file}', '/livez', '/readyz'])
  })

  test('hides the jobs of one key from every other', async () => {
    const created = await api.post('/v1/jobs', { prompt: 'p' }, alice)
    const { id } = (await created.json()) as { id: string }
    for (const path of [`/v1/jobs/${id}`, '/v1/jobs', `/v1/predictions/${id}`, `/v1/jobs/${id}/events`]) {
      const { body, headers, status } = await api.get(path, { headers: alice })
      await body?.cancel()
      expect([path, status, headers.get('Cache-Control'), headers.get('X-Content-Type-Options')]).toEqual([
        path,
        200,
        'no-store',
        'nosniff',
      ])
    }
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`]) {
      const response = await api.get(path, { headers: bob })
      expect(response.status).toBe(404)
      expect(await response.json()).toMatchObject({ code: 'not_found' })
    }
    expect((await api.post(`/v1/jobs/${id}/cancel`, {}, bob)).status).toBe(404)
    expect((await api.deps.store.get(id))?.status).toBe('queued')
  })
})

test('a key that is given a name still finds the jobs made with it before, and so does every other key of that name', async () => {
  const before = await startTestApi({ env: { API_KEYS: 'alice-secret,bob-bob-secret' } })
  const once = { 'Idempotency-Key': 'once' }
  const made = await before.post('/v1/jobs', { prompt: 'p' }, { 'X-API-Key': 'alice-secret', ...once })
  const { id } = (await made.json()) as Job
  const after = await startTestApi({
    env: { API_KEYS: 'alice:alice-secret,alice:alice-new-secret,bob:bob-bob-secret' },
    redis: before.redis,
  })
  const read = async (key: string, path = `/v1/jobs/${id}`): Promise<Response> => await after.get(path, { headers: { 'X-API-Key': key } })
  for (const key of ['alice-secret', 'alice-new-secret']) {
    expect((await read(key)).status).toBe(200)
    const listed = async (): Promise<string[]> =>
      ((await (await read(key, '/v1/jobs')).json()) as { jobs: Job[] }).jobs.map((job) => job.id)
    await expect.poll(listed, { timeout: 60_000 }).toEqual([id])
    const again = await after.post('/v1/jobs', { prompt: 'p' }, { 'X-API-Key': key, ...once })
    expect(((await again.json()) as Job).id).toBe(id)
    expect((await after.post('/v1/jobs', { prompt: 'q' }, { 'X-API-Key': key, ...once })).status).toBe(422)
  }
  expect((await read('bob-bob-secret')).status).toBe(404)
  // An api that has not been replaced yet makes another job under the hash. That is found even before it is adopted.
  const late = await before.post('/v1/jobs', { prompt: 'r' }, { 'X-API-Key': 'alice-secret', 'Idempotency-Key': 'late' })
  const { id: lateId } = (await late.json()) as Job
  expect((await read('alice-new-secret', `/v1/jobs/${lateId}`)).status).toBe(200)
  expect((await read('bob-bob-secret', `/v1/jobs/${lateId}`)).status).toBe(404)
  const others = await after.post('/v1/jobs', { prompt: 'p' }, { 'X-API-Key': 'bob-bob-secret', ...once })
  expect(((await others.json()) as Job).id).not.toBe(id)
  await after.close()
  await before.close()
})

describe('wrong keys', () => {
  const wrong = (n: number): RequestInit => ({ headers: { Authorization: `Bearer wrong-secret-${n}` } })

  test('are refused with 429 after 20 in a minute from one address, including those for the operator’s pages, while right keys pass', async () => {
    const api = await startTestApi({ env: { API_KEYS: 'alice-secret', ADMIN_KEY: 'an-operators-key', TRUSTED_PROXIES: '1' } })
    const statuses: number[] = []
    for (let n = 0; n < 19; n++) statuses.push((await api.get('/v1/jobs', wrong(n))).status)
    statuses.push((await api.get('/admin/queues', wrong(19))).status)
    expect(statuses).toEqual(Array.from({ length: 20 }, () => 401))
    for (const path of ['/v1/jobs', '/admin/queues', '/v1/predictions', '/v1/images/generations']) {
      const refused = await api.get(path, { ...wrong(20), ...(path.endsWith('generations') && { method: 'POST' }) })
      expect([path, refused.status]).toEqual([path, 429])
      expect(Number(refused.headers.get('Retry-After'))).toBeGreaterThan(0)
    }
    expect((await api.get('/v1/jobs', { headers: { Authorization: 'Bearer alice-secret' } })).status).toBe(200)
    expect((await api.get('/admin/queues', { headers: { Authorization: 'Bearer an-operators-key' } })).status).toBe(200)
    expect((await api.get('/v1/jobs')).status).toBe(401)
    const elsewhere = { headers: { Authorization: 'Bearer wrong-secret', 'X-Forwarded-For': '9.9.9.9' } }
    expect((await api.get('/v1/jobs', elsewhere)).status).toBe(401)
    await api.close()
  })
})
