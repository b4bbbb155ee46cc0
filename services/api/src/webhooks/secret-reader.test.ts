import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createJobStore, createRedis, waitUntilReady } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { readConfig } from '../config.ts'
import { ApiKeyRing } from '../api-key-ring.ts'
import { createSecretReader } from './secret-reader.ts'
import type { SecretReader } from './secret-reader.ts'
import { isWebhookSecret } from './webhook-secret.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  await waitUntilReady(redis, 60_000)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

const ofBytes = (count: number): string => `whsec_${Buffer.alloc(count, 7).toString('base64')}`

const silent = pino({ level: 'silent' })

function start(env: Record<string, string>, { prefix = 'configured', logger = silent } = {}): SecretReader {
  const config = readConfig(env)
  const apiKeys = new ApiKeyRing(config.apiKeys, undefined)
  return createSecretReader({ apiKeys, config, redis, logger, store: createJobStore({ redis, prefix }) })
}

describe('signing secrets', () => {
  test('are those that are configured, and then none is made', async () => {
    for (const apiKeys of ['', 'a-secret-key', 'alice:first-key,alice:second-key']) {
      const read = start({ WEBHOOK_SECRETS: `${ofBytes(24)},${ofBytes(32)}`, API_KEYS: apiKeys })
      expect(await read('alice')).toEqual([ofBytes(24), ofBytes(32)])
    }
    expect(await redis.exists('configured:webhook-secret')).toBe(0)
  })

  test('are made once for all replicas if none is configured, kept, and logged once', async () => {
    let log = ''
    const logger = pino(new Writable({ write: (chunk: Buffer, _encoding, done) => ((log += chunk.toString()), done()) }))
    const readers = Array.from({ length: 5 }, () => start({}, { prefix: 'made', logger }))
    const secrets = await Promise.all(readers.map((read) => read('public')))
    const [secret = ''] = secrets[0] ?? []
    expect(new Set(secrets.flat())).toEqual(new Set([secret]))
    expect(isWebhookSecret(secret)).toBe(true)
    expect(await redis.ttl('made:webhook-secret')).toBe(-1)
    expect(log.split(secret).length - 1).toBe(1)
    expect(await start({}, { prefix: 'made', logger })('public')).toEqual([secret])
  })

  test('differ by owner if there are several, with one for each configured secret, the same in every replica', async () => {
    const env = { WEBHOOK_SECRETS: `${ofBytes(24)},${ofBytes(32)}`, API_KEYS: 'alice:first-key,bob:second-key' }
    const [read, other] = [start(env), start(env)]
    const [alice, bob] = [await read('alice'), await read('bob')]
    expect(await other('alice')).toEqual(alice)
    const all = [...alice, ...bob, ofBytes(24), ofBytes(32)]
    expect([new Set(all).size, alice.length, bob.length]).toEqual([6, 2, 2])
    expect(all.every(isWebhookSecret)).toBe(true)
  })

  test('are written in the environment as whsec_ and the base64 of 24 to 64 bytes, separated by commas', () => {
    expect(readConfig({ WEBHOOK_SECRETS: `${ofBytes(24)}, ${ofBytes(64)},` }).webhookSecrets).toEqual([ofBytes(24), ofBytes(64)])
    expect(readConfig({}).webhookSecrets).toEqual([])
    for (const wrong of [
      ofBytes(23),
      ofBytes(65),
      'whsec_',
      'hunter2',
      ofBytes(32).slice(6),
      `${ofBytes(32)}!`,
      ofBytes(25).replace(/=+$/, ''),
    ]) {
      expect(() => readConfig({ WEBHOOK_SECRETS: `${ofBytes(24)},${wrong}` })).toThrow('WEBHOOK_SECRETS: Expected')
    }
  })
})
