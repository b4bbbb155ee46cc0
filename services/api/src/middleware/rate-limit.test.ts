import { afterEach, describe, expect, test } from 'vitest'
import { startTestApi } from '../../test/start-api.ts'
import type { StartApiOptions, TestApi } from '../../test/start-api.ts'
import { toClient } from './client-address.ts'

const apis: TestApi[] = []
const start = async (options: StartApiOptions): Promise<TestApi> => {
  const api = await startTestApi(options)
  apis.push(api)
  return api
}
afterEach(async () => {
  // The first one owns the Redis of the others, so it is closed last.
  for (const api of apis.splice(0).reverse()) await api.close()
})

test('an IPv4 address in any spelling is one client, and so is a whole /64 network', () => {
  for (const text of ['::ffff:1.2.3.4', '1.2.3.4:5678', '"1.2.3.4"', '"1.2.3.4:5678"', ' 1.2.3.4 ']) expect(toClient(text)).toBe('1.2.3.4')
  for (const text of ['2001:DB8:0:0:ffff::2', '[2001:db8::1]', '[2001:db8::1]:443', '"[2001:db8::3]:1"']) {
    expect(toClient(text)).toBe(toClient('2001:db8::1'))
  }
  expect(toClient('2001:db8:0:1::1')).not.toBe(toClient('2001:db8::1'))
})

test('all unreadable addresses together are one client', () => {
  const texts = ['unknown', '_hidden', '', '1.2.3.4:99999', '1.2.3', 'example.com', '[::1', '"', '1.2.3.4;5', 'x'.repeat(100)]
  // Some parsers accept addresses with fewer parts, which is fine as long as all spellings of one client count as one.
  expect(new Set(texts.filter((text) => text !== '1.2.3').map(toClient))).toEqual(new Set(['unknown']))
})

describe('an api with a rate limit', () => {
  test('tells how many requests are left, refuses any more, and accepts requests again after Retry-After', async () => {
    const api = await start({ env: { RATE_LIMIT: '3/hour' } })
    const left: (string | null)[] = []
    for (let i = 0; i < 3; i++) left.push((await api.get('/v1/capabilities')).headers.get('RateLimit'))
    expect(left.map((text) => /^"default";r=(\d);t=3[56]\d\d$/.exec(text ?? '')?.[1])).toEqual(['2', '1', '0'])
    const refused = await api.get('/v1/capabilities')
    expect(refused.status).toBe(429)
    expect(refused.headers.get('RateLimit-Policy')).toBe('"default";q=3;w=3600')
    expect(refused.headers.get('RateLimit')).toMatch(/^"default";r=0;t=3[56]\d\d$/)
    expect(await refused.json()).toMatchObject({ code: 'rate_limited', retryable: true })
    const retryAfter = Number(refused.headers.get('Retry-After'))
    const [count = ''] = await api.deps.redis.keys('*:rate:*')
    const leftMs = await api.deps.redis.pttl(count)
    expect(leftMs).toBeGreaterThan(0)
    expect(leftMs).toBeLessThanOrEqual(retryAfter * 1000)
    // Redis removes the count after that time, which the test cuts short.
    await api.deps.redis.pexpire(count, 1)
    await expect.poll(async () => (await api.get('/v1/capabilities')).status).toBe(200)
  })

  test('counts over all replicas, separately for each key, and never counts open paths', async () => {
    const env = { RATE_LIMIT: '2/min', API_KEYS: 'alice-secret,bob-bob-secret' }
    const first = await start({ env })
    const second = await start({ env, redis: first.redis })
    const ask = async (api: TestApi, key: string): Promise<number> =>
      (await api.get('/v1/capabilities', { headers: { 'X-API-Key': key } })).status
    expect([await ask(first, 'alice-secret'), await ask(second, 'alice-secret'), await ask(first, 'alice-secret')]).toEqual([200, 200, 429])
    expect(await ask(second, 'bob-bob-secret')).toBe(200)
    for (let i = 0; i < 5; i++) expect((await first.get('/livez')).status).toBe(200)
  })

  test('answers with 503 while it cannot count, and recovers', async () => {
    const api = await start({ env: { RATE_LIMIT: '100/min' } })
    await api.redis.kill()
    const refused = await api.get('/v1/capabilities')
    expect([refused.status, refused.headers.get('Retry-After')]).toEqual([503, '1'])
    expect(await refused.json()).toMatchObject({ code: 'queue_unavailable' })
    expect((await api.get('/livez')).status).toBe(200)
    await api.redis.restart()
    await expect.poll(async () => (await api.get('/v1/capabilities')).status, { timeout: 60_000 }).toBe(200)
  })

  test.each([
    ['X-Forwarded-For', ['1.1.1.1:1000', '1.1.1.1:2000', '6.6.6.6, "1.1.1.1:3000"']],
    ['X-Forwarded-For', ['[2001:db8::1]:1000', '[2001:db8::1]', '6.6.6.6, 2001:db8::2']],
    ['X-Forwarded-For', ['nonsense-1', 'nonsense-2:80', '6.6.6.6, _x']],
    ['Forwarded', ['for=1.1.1.1', 'for="1.1.1.1:2000";proto=https', 'for=6.6.6.6, For="1.1.1.1:3000";by=2.2.2.2']],
    ['Forwarded', ['for="[2001:db8::1]:1000"', 'for="[2001:db8::1]"', 'for=unknown, for="[2001:db8::2]"']],
    ['Forwarded', ['for', ';;', 'for="1']],
  ])('recognises one client by %s, whatever the port and the spelling: %j', async (name, values) => {
    const api = await start({ env: { RATE_LIMIT: '2/min', TRUSTED_PROXIES: '1' } })
    const statuses: number[] = []
    for (const value of values) statuses.push((await api.get('/v1/capabilities', { headers: { [name]: value } })).status)
    expect(statuses).toEqual([200, 200, 429])
  })

  test('believes X-Forwarded-For only as far as there are trusted proxies', async () => {
    const env = { RATE_LIMIT: '1/min' }
    const direct = await start({ env })
    const behind = await start({ env: { ...env, TRUSTED_PROXIES: '1', QUEUE_PREFIX: '{other}' }, redis: direct.redis })
    const ask = async (api: TestApi, forwarded: string): Promise<number> =>
      (await api.get('/v1/capabilities', { headers: { 'X-Forwarded-For': forwarded } })).status
    expect([await ask(direct, '1.1.1.1'), await ask(direct, '2.2.2.2')]).toEqual([200, 429])
    expect([await ask(behind, '9.9.9.9, 1.1.1.1'), await ask(behind, '8.8.8.8, 2.2.2.2'), await ask(behind, '7.7.7.7, 1.1.1.1')]).toEqual([
      200, 200, 429,
    ])
  })
})
