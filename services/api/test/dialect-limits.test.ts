/** What holds for every way to make a job: keys, limits of requests and of waiting jobs, separate owners, the Idempotency-Key. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

let first: TestApi
beforeAll(async () => {
  first = await startTestApi({ env: { API_KEYS: 'alice:alices-key,bob:bobs-own-key' } })
})
afterAll(async () => {
  await first.close()
})

const alice = { Authorization: 'Bearer alices-key' }
/** For every dialect, how it makes a job and where its errors say what is wrong. */
const dialects = [
  { name: 'OpenAI', path: '/v1/images/generations', body: { prompt: 'a', stream: true }, said: 'error.message' },
  { name: 'Replicate', path: '/v1/models/local/tiny-scenes/predictions', body: { input: { prompt: 'a' } }, said: 'detail' },
  { name: 'fal', path: '/fal/queue/local/tiny-scenes', body: { prompt: 'a' }, said: 'detail' },
]

describe.each(dialects)('$name', ({ path, body, said }) => {
  test('asks for a key, and says in its own words when there is none', async () => {
    const response = await first.post(path, body)
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="easel"'])
    expect(await response.json()).toHaveProperty(said, expect.stringMatching(/^Expected one of the API keys/))
    for (const headers of [
      alice,
      { Authorization: 'Key alices-key' },
      { Authorization: 'Token alices-key' },
      { 'X-API-Key': 'alices-key' },
    ]) {
      const accepted = await first.post(path, body, headers)
      expect(accepted.ok).toBe(true)
      await accepted.body?.cancel()
    }
  })

  test('makes one job for each Idempotency-Key of an owner, and refuses the key with another body', async () => {
    const location = async (key: string, sent: object = body): Promise<[number, string | null]> => {
      const headers = { Authorization: `Bearer ${key}`, 'Idempotency-Key': path }
      const response = await first.post(path, sent, headers)
      await response.body?.cancel()
      return [response.status, response.headers.get('location')]
    }
    const made = await location('alices-key')
    expect(made[1]).toMatch(/^\/v1\/jobs\//)
    expect(await location('alices-key')).toEqual(made)
    expect((await location('bobs-own-key'))[1]).not.toBe(made[1])
    const other = 'input' in body ? { input: { prompt: 'b' } } : { ...body, prompt: 'b' }
    expect(await location('alices-key', other)).toEqual([422, null])
    const foreign = await first.get(made[1] ?? '', { headers: { Authorization: 'Bearer bobs-own-key' } })
    expect(foreign.status).toBe(404)
  })

  test('says in its own words, with Retry-After, that too many jobs are waiting or too many requests have come', async () => {
    const full = await startTestApi({ redis: first.redis, env: { QUEUE_PREFIX: `{${path}}`, MAX_QUEUED_JOBS: '1', RATE_LIMIT: '3/h' } })
    await full.submit()
    const refused = await full.post(path, body)
    expect([refused.status, Number(refused.headers.get('retry-after')) > 0]).toEqual([429, true])
    expect(await refused.json()).toHaveProperty(said, 'Waiting jobs: 1. With this one they would exceed MAX_QUEUED_JOBS, 1.')
    await full.post(path, body)
    const limited = await full.post(path, body)
    expect([limited.status, Number(limited.headers.get('retry-after')) > 0]).toEqual([429, true])
    expect(await limited.json()).toHaveProperty(said, expect.stringMatching(/^Expected at most 3 requests in 3600 s/))
    await full.close()
  })

  test('says 503 when there is no worker', async () => {
    const idle = await startTestApi({ redis: first.redis, model: null, env: { QUEUE_PREFIX: `{none ${path}}` } })
    const response = await idle.post(path, body)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '10'])
    expect(await response.json()).toHaveProperty(said, expect.any(String))
    await idle.close()
  })
})
