import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { hc } from 'hono/client'
import { afterAll, beforeAll, describe, expect, expectTypeOf, test, vi } from 'vitest'
import type { Job, Problem } from '@easel/contract'
import { startTestApi } from '../test/start-api.ts'
import type { TestApi } from '../test/start-api.ts'
import type { ApiRoutes } from './app.ts'
import { describeApi } from './describe-api.ts'

// The real function runs; the spy only counts its calls.
vi.mock(import('./describe-api.ts'), { spy: true })

interface Operation {
  responses: Record<string, { content?: Record<string, unknown> }>
}
interface OpenApiDocument {
  openapi: string
  info: { title: string }
  paths: Record<string, Record<string, Operation>>
}

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(async () => {
  await api.close()
})

describe('the api as a whole', () => {
  test('answers HTTP/1.0 requests without a Host header, as load balancers send them', async () => {
    const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.end('GET /livez HTTP/1.0\r\n\r\n')
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('keeps a sane request id, replaces any other, and sends one with every answer', async () => {
    expect((await api.get('/livez', { headers: { 'X-Request-Id': 'abc-123' } })).headers.get('x-request-id')).toBe('abc-123')
    for (const id of ['a b', 'x'.repeat(129), '<script>']) {
      expect((await api.get('/nothing', { headers: { 'X-Request-Id': id } })).headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    }
    const { id } = (await (await api.post('/v1/jobs', { prompt: 'a' }, { 'X-Request-Id': 'of-the-job' })).json()) as { id: string }
    expect((await api.worker.store.get(id))?.requestId).toBe('of-the-job')
  })

  test('lets pages of every origin call it with any header and read the headers they need', async () => {
    const headers = {
      Origin: 'https://a.example',
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'x-own,content-type',
    }
    const preflight = await api.get('/v1/jobs', { method: 'OPTIONS', headers })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*')
    expect(preflight.headers.get('access-control-allow-headers')).toBe('x-own,content-type')
    expect(preflight.headers.get('access-control-allow-methods')).toContain('POST')
    const origin = { headers: { Origin: headers.Origin } }
    for (const response of [
      await api.get('/v1/jobs/x', origin),
      await api.post('/v1/jobs', {}, origin.headers),
      await api.get('/livez', origin),
    ]) {
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('access-control-allow-credentials')).toBeNull()
      const exposed = response.headers.get('access-control-expose-headers')?.split(',')
      expect(exposed).toEqual(expect.arrayContaining(['Location', 'Retry-After', 'ETag', 'RateLimit', 'Idempotency-Replayed']))
    }
    // A cache must not give a page an answer that was stored for a request without an origin.
    expect((await api.get('/livez')).headers.get('vary')).toContain('Origin')
  })

  test('lets in only the listed origins when there is a list', async () => {
    const listed = await startTestApi({ redis: api.redis, env: { CORS_ORIGINS: 'https://a.example,https://b.example' } })
    const allowed = async (Origin: string): Promise<string | null> =>
      (await listed.get('/livez', { headers: { Origin } })).headers.get('access-control-allow-origin')
    expect(await allowed('https://b.example')).toBe('https://b.example')
    expect(await allowed('https://c.example')).toBeNull()
    await listed.close()
  })

  test('reveals no internals to the client when an unforeseen error occurs', async () => {
    const { registry } = api.deps
    const models = registry.models.bind(registry)
    registry.models = () => Promise.reject(new Error('secret of the inside'))
    const response = await api.get('/v1/capabilities')
    registry.models = models
    expect(response.status).toBe(500)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    const text = await response.text()
    expect(text).toContain('"code":"internal"')
    expect(text).not.toContain('secret')
  })

  test('gives a client built from its types a typed function for every route', async () => {
    const client = hc<ApiRoutes>(api.url)
    const made = await client.v1.jobs.$post({ json: { prompt: 'a', seed: 3 }, header: {} })
    if (made.status !== 202) throw new Error(`Expected 202, got ${made.status}`)
    const job = await made.json()
    expectTypeOf(job.output).toEqualTypeOf<Job['output']>()
    expect(job.input.seed).toBe(3)
    const asRequest = await client.fal.queue[':owner'][':name'].requests[':id'].status.$get({
      param: { owner: 'local', name: 'tiny-scenes', id: job.id },
      query: {},
    })
    expect(await asRequest.json()).toMatchObject({ status: 'IN_QUEUE', request_id: job.id })
    const prediction = await client.v1.predictions[':id'].$get({ param: { id: job.id } })
    expect(await prediction.json()).toMatchObject({ status: 'starting' })
    const models = await client.v1.models.$get()
    expect(await models.json()).toMatchObject({ data: [{ id: 'tiny-scenes' }] })
    const routes = [client.api.diffusers.inference.$post, client.v1.images.generations.$post, client.readyz.$get]
    expect(routes.map((route) => typeof route)).toEqual(['function', 'function', 'function'])
    const problem = await client.v1.jobs[':id'].$get({ param: { id: 'none' }, header: {} })
    if (problem.status !== 404) throw new Error(`Expected 404, got ${problem.status}`)
    expectTypeOf((await problem.json()).code).toEqualTypeOf<Problem['code']>()
  })

  test('describes what a code generator and a webhook receiver need: function names, the webhook body, events and headers', async () => {
    const text = await (await api.get('/openapi.json')).text()
    const { paths, webhooks } = JSON.parse(text) as {
      paths: Record<
        string,
        Record<
          string,
          { operationId: string; responses: Record<string, { headers?: object; content?: Record<string, { schema: object }> }> }
        >
      >
      webhooks: Record<string, { post: { requestBody: { content: Record<string, { schema: object }> } } }>
    }
    const ids = Object.values(paths).flatMap((item) => Object.values(item).map(({ operationId }) => operationId))
    expect(ids.filter((id) => !/^[a-z][A-Za-z0-9]{4,}$/.test(id))).toEqual([])
    expect(ids).toContain('submitAJob')
    expect(JSON.stringify(webhooks['job']?.post.requestBody.content['application/json']?.schema)).toContain('job.completed')
    const events = paths['/v1/jobs/{id}/events']?.['get']?.responses['200']?.content?.['text/event-stream']?.schema
    expect(JSON.stringify(events)).toContain('data_url')
    expect(Object.keys(paths['/v1/jobs']?.['post']?.responses['202']?.headers ?? {})).toEqual(
      expect.arrayContaining(['Location', 'Retry-After']),
    )
  })

  test('makes its description once, however often it is asked for', async () => {
    const fresh = await startTestApi({ redis: api.redis })
    const descriptions = new Set<string>()
    for (let i = 0; i < 3; i++) descriptions.add(await (await fresh.get('/openapi.json')).text())
    await fresh.close()
    expect(descriptions.size).toBe(1)
    expect(vi.mocked(describeApi)).toHaveBeenCalledTimes(1)
  })

  test('describes its routes, with the problems that each may answer', async () => {
    const document = (await (await api.get('/openapi.json')).json()) as OpenApiDocument
    expect([document.openapi, document.info.title]).toEqual(['3.1.0', 'Easel'])
    const paths = ['/', '/livez', '/readyz', '/v1/capabilities', '/v1/jobs', '/v1/jobs/{id}', '/v1/jobs/{id}/cancel', '/images/{file}']
    expect(Object.keys(document.paths)).toEqual(expect.arrayContaining([...paths, '/api/diffusers/inference', '/api/status']))
    const create = document.paths['/v1/jobs']?.['post']?.responses ?? {}
    expect(Object.keys(create)).toEqual(expect.arrayContaining(['202', '400', '413', '415', '422', '429', '503']))
    expect(Object.keys(create['422']?.content ?? {})).toEqual(['application/problem+json'])
  })
})
