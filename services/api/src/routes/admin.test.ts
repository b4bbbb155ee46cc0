import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

const key = 'an-operators-key'
let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ env: { ADMIN_KEY: key, API_KEYS: 'a-clients-key' } })
})
afterAll(async () => {
  await api?.close()
  await api?.redis.stop()
})

const basic = (password: string): Record<string, string> => ({
  Authorization: `Basic ${Buffer.from(`anyone:${password}`).toString('base64')}`,
})

// Wrong keys are counted, and only twenty in a minute are answered with 401, so there are not more paths.
const paths = ['', '/', '/status', '/queues', '/queues/', '/queues/static/js/main.js']

describe('everything under /admin', () => {
  test.for([
    ['no key', {}],
    ['a wrong password', basic('an-operators-kex')],
    ['an empty password', basic('')],
    ['a wrong token', { Authorization: 'Bearer nothing' }],
    ["a client's API key", { Authorization: 'Bearer a-clients-key' }],
  ] as [string, Record<string, string>][])('asks for the key when given %s, on every path', async ([, headers]) => {
    for (const path of paths) {
      const response = await api.get(`/admin${path}`, { headers })
      const { status } = response
      expect([path, status, response.headers.get('www-authenticate')]).toEqual([path, 401, 'Basic realm="easel admin"'])
      expect([path, response.headers.get('cache-control')]).toEqual([path, 'no-store'])
    }
  })

  test('does not exist without ADMIN_KEY, even if there are no API keys', async () => {
    const bare = await startTestApi({ redis: api.redis })
    for (const path of paths) expect([path, (await bare.get(`/admin${path}`, { headers: basic(key) })).status]).toEqual([path, 404])
    await bare.close()
  })
})

describe('the admin page', () => {
  test.for(['/admin', '/admin/'])('at %s loads nothing from elsewhere and cannot be framed', async (path) => {
    const page = await api.get(path, { headers: basic(key) })
    expect([page.status, page.headers.get('content-type'), new URL(page.url).pathname]).toEqual([200, 'text/html; charset=UTF-8', '/admin'])
    const policy = page.headers.get('content-security-policy') ?? ''
    expect(policy).toMatch(/^default-src 'self';.*frame-ancestors 'none'$/)
    expect(policy).not.toContain('unsafe-inline')
    expect([page.headers.get('cache-control'), page.headers.get('x-content-type-options')]).toEqual(['no-store', 'nosniff'])
    expect(page.headers.get('referrer-policy')).toBe('no-referrer')
  })

  test('gets its data as JSON that must not be stored', async () => {
    const response = await api.get('/admin/status', { headers: basic(key) })
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/json'])
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(await response.json()).toMatchObject({ models: { total: 1, listed: [{ id: 'tiny-scenes', workers: 0 }] } })
  })
})

describe('/admin/queues', () => {
  test('is the same page with and without a trailing slash', async () => {
    const [bare, slashed] = await Promise.all(['', '/'].map(async (end) => await api.get(`/admin/queues${end}`, { headers: basic(key) })))
    expect([bare?.status, slashed?.status]).toEqual([200, 200])
    expect(await slashed?.text()).toBe(await bare?.text())
  })

  test('shows its page, scripts and the queues with their jobs to whoever has the key, and lets nobody change anything', async () => {
    const headers = basic(key)
    const page = await api.get('/admin/queues', { headers })
    expect(page.status).toBe(200)
    const html = await page.text()
    expect(html).not.toMatch(/https?:\/\//)
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'self';.*frame-ancestors 'none'$/)
    expect([page.headers.get('cache-control'), page.headers.get('x-content-type-options')]).toEqual(['no-store', 'nosniff'])
    const script = /src="([^"]+\.js)"/.exec(html)?.[1] ?? ''
    const scriptUrl = new URL(script, new URL(/<base href="([^"]+)"/.exec(html)?.[1] ?? '/admin/queues/', api.url))
    const served = await fetch(scriptUrl, { headers })
    expect([served.status, served.headers.get('content-type')]).toEqual([200, expect.stringContaining('javascript')])

    const posted = await api.post('/v1/jobs', { prompt: 'a' }, { Authorization: 'Bearer a-clients-key' })
    const { id } = (await posted.json()) as { id: string }
    const bearer = { Authorization: `Bearer ${key}` }
    const { queues } = (await (await api.get('/admin/queues/api/queues', { headers: bearer })).json()) as {
      queues: { name: string; readOnlyMode: boolean; counts: Record<string, number> }[]
    }
    expect(queues.map(({ name }) => name).toSorted()).toEqual(['generate-tiny-scenes', 'maintenance', 'webhooks'])
    expect(queues.every(({ readOnlyMode }) => readOnlyMode)).toBe(true)
    const counts = queues.find(({ name }) => name === 'generate-tiny-scenes')?.counts
    expect((counts?.['waiting'] ?? 0) + (counts?.['prioritized'] ?? 0)).toBe(1)
    await api.get(`/admin/queues/api/queues/generate-tiny-scenes/${id}/promote`, { method: 'PUT', headers })
    const removal = await api.get(`/admin/queues/api/queues/generate-tiny-scenes/${id}/clean`, { method: 'PUT', headers })
    expect(removal.status).toBeGreaterThanOrEqual(400)
    expect(await api.deps.queues.of('tiny-scenes').getJob(id)).toBeDefined()
  })
})
