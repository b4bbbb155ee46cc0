import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRedis, waitUntilReady } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { readConfig } from '../config.ts'
import { createSecretReader, isWebhookSecret } from './secret-reader.ts'

let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection

beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'request', onError: () => {} })
  await waitUntilReady(redis, 5000)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

const ofBytes = (count: number): string => `whsec_${Buffer.alloc(count, 7).toString('base64')}`

describe('signing secrets', () => {
  test('that are configured are used, and none is made', async () => {
    const logger = pino({ level: 'silent' })
    const read = createSecretReader({ configured: [ofBytes(24), ofBytes(32)], redis, key: 'configured', logger })
    expect(await read()).toEqual([ofBytes(24), ofBytes(32)])
    expect(await redis.exists('configured')).toBe(0)
  })

  test('that are not configured are made once for all replicas, kept, and told once in the log', async () => {
    let log = ''
    const logger = pino(new Writable({ write: (chunk: Buffer, _encoding, done) => ((log += chunk.toString()), done()) }))
    const readers = Array.from({ length: 5 }, () => createSecretReader({ configured: [], redis, key: 'made', logger }))
    const secrets = await Promise.all(readers.map((read) => read()))
    const [secret = ''] = secrets[0] ?? []
    expect(new Set(secrets.flat())).toEqual(new Set([secret]))
    expect(isWebhookSecret(secret)).toBe(true)
    expect(await redis.ttl('made')).toBe(-1)
    expect(log.split(secret).length - 1).toBe(1)
    expect(await createSecretReader({ configured: [], redis, key: 'made', logger })()).toEqual([secret])
  })

  test('in the environment are whsec_ and base64 of 24 to 64 bytes, separated by commas', () => {
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
