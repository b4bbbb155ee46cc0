import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

  test('a request without a key of the list is answered with 401 and a challenge', async () => {
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

  test('every way that clients send a key is taken', async () => {
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

  test('health, metrics, description and images are open, and nothing else is', async () => {
    for (const path of ['/livez', '/readyz', '/metrics', '/openapi.json', '/images/x.png'])
      expect((await api.get(path)).status).not.toBe(401)
    for (const path of ['/v1/jobs', '/v1/capabilities', '/images', '/x/../v1/jobs']) expect((await api.get(path)).status).toBe(401)
    expect((await api.post('/api/diffusers/inference', { prompt: 'p' })).status).toBe(401)
  })

  test('a browser may ask beforehand without a key', async () => {
    const headers = {
      Origin: 'https://example.com',
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'authorization',
    }
    expect((await api.get('/v1/jobs', { method: 'OPTIONS', headers })).status).toBe(204)
  })

  test('the description says how to send a key', async () => {
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
    expect(open.map(([path]) => path).toSorted()).toEqual(['/', '/images/{file}', '/livez', '/readyz'])
  })

  test('the jobs of one key do not exist for another', async () => {
    const created = await api.post('/v1/jobs', { prompt: 'p' }, alice)
    const { id } = (await created.json()) as { id: string }
    expect((await api.get(`/v1/jobs/${id}`, { headers: alice })).status).toBe(200)
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`]) {
      const response = await api.get(path, { headers: bob })
      expect(response.status).toBe(404)
      expect(await response.json()).toMatchObject({ code: 'not_found' })
    }
    expect((await api.post(`/v1/jobs/${id}/cancel`, {}, bob)).status).toBe(404)
    expect((await api.deps.store.get(id))?.status).toBe('queued')
  })
})
