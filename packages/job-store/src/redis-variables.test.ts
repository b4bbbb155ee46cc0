import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { checkRedisVariables, redisVariables, toRedisLocation } from './redis-variables.ts'

// As in a service, which adds a variable of its own.
const schema = z.object({ PORT: z.coerce.number().default(8500), ...redisVariables }).superRefine(checkRedisVariables, { when: () => true })
const read = (env: Record<string, string>) => toRedisLocation(schema.parse(env))
const someFile = fileURLToPath(import.meta.url)

/** Each problem as `VARIABLE: message`. */
function problemsOf(env: Record<string, string>): string[] {
  const result = schema.safeParse(env)
  return result.success ? [] : result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
}

describe('where Redis is', () => {
  test('is one local server by default', () => {
    expect(read({})).toEqual({ url: 'redis://localhost:6379', cluster: false })
  })

  test('is a cluster when several URLs are given, or one and REDIS_CLUSTER', () => {
    expect(read({ REDIS_URL: 'redis://a:7000, redis://b:7001' })).toMatchObject({ cluster: true })
    expect(read({ REDIS_URL: 'rediss://cluster.example.com:6379', REDIS_CLUSTER: 'true' })).toMatchObject({ cluster: true })
  })

  test('is what the Sentinels say', () => {
    expect(read({ REDIS_SENTINELS: 'a:26379,[::1]:26380', REDIS_SENTINEL_MASTER: 'easel', REDIS_SENTINEL_PASSWORD: 's' })).toEqual({
      url: 'redis://localhost:6379',
      cluster: false,
      sentinel: { addresses: ['a:26379', '[::1]:26380'], master: 'easel', password: 's' },
    })
  })

  test('is verified with the certificates in REDIS_TLS_CA', () => {
    expect(read({ REDIS_URL: 'rediss://a', REDIS_TLS_CA: someFile })).toMatchObject({ tlsCaFile: someFile })
  })
})

test.for([
  [{ REDIS_URL: 'localhost' }, 'REDIS_URL: Expected a redis:// or rediss:// URL'],
  [{ REDIS_URL: 'redis://a,http://b' }, 'REDIS_URL: Expected a redis:// or rediss:// URL'],
  [{ REDIS_SENTINELS: 'a' }, 'REDIS_SENTINELS: Expected host:port, separated by commas'],
  [
    { REDIS_CLUSTER: 'true', QUEUE_PREFIX: 'easel' },
    'QUEUE_PREFIX: Expected a hash tag such as {easel} because Redis is a cluster, got easel',
  ],
  [
    { REDIS_CLUSTER: 'true', QUEUE_PREFIX: '{}{easel}' },
    'QUEUE_PREFIX: Expected a hash tag such as {easel} because Redis is a cluster, got {}{easel}',
  ],
  [
    { REDIS_CLUSTER: 'true', REDIS_SENTINELS: 'a:1' },
    'REDIS_SENTINELS: Expected nothing because a Redis Cluster fails over by itself, got Sentinels',
  ],
  [{ REDIS_URL: 'redis://a,redis://b/1' }, 'REDIS_URL: Expected database 0, the only one of a Redis Cluster, got another'],
  [{ REDIS_URL: 'redis://:x@a,redis://:y@b' }, 'REDIS_URL: Expected the same scheme, user and password in every URL, got different ones'],
  [{ REDIS_TLS_CA: someFile }, 'REDIS_TLS_CA: Expected a rediss:// URL in REDIS_URL, which alone uses it, got redis://'],
] as const)('variables that contradict themselves are refused by name: %j', ([env, problem]) => {
  expect(problemsOf(env)).toEqual([problem])
})

test('a file of certificates that is missing is reported at the start', () => {
  expect(problemsOf({ REDIS_URL: 'rediss://a', REDIS_TLS_CA: '/no/such/file' })).toEqual([
    expect.stringMatching(/^REDIS_TLS_CA: Expected a file that can be read, got ENOENT/),
  ])
})

test('without a cluster a prefix needs no hash tag', () => {
  expect(problemsOf({ QUEUE_PREFIX: 'easel' })).toEqual([])
})

test('problems between variables are reported together with those of other variables', () => {
  expect(problemsOf({ PORT: 'x', REDIS_CLUSTER: 'true', QUEUE_PREFIX: 'q' }).map((problem) => problem.split(':')[0])).toEqual([
    'PORT',
    'QUEUE_PREFIX',
  ])
})
