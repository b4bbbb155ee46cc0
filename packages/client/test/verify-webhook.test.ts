/** Messages that were signed by the service's own code, and altered ones; the package `standardwebhooks` must agree. */
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { signMessage, type SignedHeaders } from '../../../services/api/src/webhooks/sign-message.ts'
import { verifyWebhook, WebhookVerificationError } from '../src/index.ts'

const [first, second, third] = [24, 32, 64].map((length, i) => `whsec_${Buffer.alloc(length, i + 1).toString('base64')}`) as [
  string,
  string,
  string,
]
const at = Date.UTC(2026, 10, 30)
const id = 'msg_0199_completed'
const body = JSON.stringify({
  type: 'job.completed',
  timestamp: '2026-11-30T00:00:00.000Z',
  data: { id: '0199', prompt: 'ein grünes Boot 🚤' },
})
const sign = (...secrets: string[]): SignedHeaders => signMessage(secrets, { id, at, body })
const verify = async (headers: Parameters<typeof verifyWebhook>[1], secrets: string | string[], options = {}) =>
  await verifyWebhook(body, headers, secrets, { now: at, ...options })

describe('a message that the service signed', () => {
  test('is returned with its id, in whatever form its bytes and headers come', async () => {
    const message = { id, ...(JSON.parse(body) as object) }
    const headers = { ...sign(first) }
    const bytes = Buffer.from(body)
    for (const form of [body, bytes, new Uint8Array(bytes), new Uint8Array(bytes).buffer]) {
      expect(await verifyWebhook(form, headers, first, { now: at })).toEqual(message)
    }
    const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]))
    for (const form of [new Headers(headers), upper, { ...headers, 'set-cookie': ['a', 'b'], absent: undefined }]) {
      expect(await verify(form, first)).toEqual(message)
    }
  })

  test('is accepted by whoever knows any of its secrets, so that either side can change them', async () => {
    for (const secrets of [first, second, [third, second], [first, third]]) {
      expect(await verify({ ...sign(first, second) }, secrets)).toMatchObject({ id })
    }
    await expect(verify({ ...sign(first, second) }, third)).rejects.toThrow(WebhookVerificationError)
    // A signature of another version is ignored.
    const signature = `v1a,AAAA ${sign(first)['webhook-signature']}`
    expect(await verify({ ...sign(first), 'webhook-signature': signature }, first)).toMatchObject({ id })
  })

  test('is accepted by the package standardwebhooks, too', async () => {
    const now = Math.floor(Date.now() / 1000) * 1000
    const headers = { ...signMessage([first], { id, at: now, body }) }
    expect(new Webhook(first).verify(body, headers)).toEqual(JSON.parse(body))
    expect(await verifyWebhook(body, headers, first)).toMatchObject({ id })
  })
})

describe('a message is refused', () => {
  test.each<[string, Partial<SignedHeaders>, string]>([
    ['with another secret', {}, second],
    ['with another id', { 'webhook-id': 'msg_0199_started' }, first],
    ['with another time', { 'webhook-timestamp': String(at / 1000 + 1) }, first],
    ['with a signature of something else', { 'webhook-signature': sign(second)['webhook-signature'] }, first],
    ['with an empty signature', { 'webhook-signature': 'v1,' }, first],
    ['with a signature that is not base64', { 'webhook-signature': 'v1,%%%' }, first],
    ['with a time that is not a number', { 'webhook-timestamp': 'now' }, first],
    ['with a time that is not a whole number', { 'webhook-timestamp': `${at / 1000}.5` }, first],
    ['without a signature', { 'webhook-signature': '' }, first],
    ['without an id', { 'webhook-id': '' }, first],
  ])('%s', async (_, over, secret) => {
    const error = await verify({ ...sign(first), ...over }, secret).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(WebhookVerificationError)
    expect(error).toMatchObject({ code: 'invalid_webhook', status: undefined, retryable: false })
  })

  test('when a byte of it has changed', async () => {
    await expect(
      verifyWebhook(body.replace('boat', 'goat').replace('Boot', 'Brot'), { ...sign(first) }, first, { now: at }),
    ).rejects.toThrow('Expected a signature made with one of the secrets')
  })

  test('when it is older or newer than the tolerance allows, which is five minutes by default', async () => {
    const headers = { ...sign(first) }
    for (const offMs of [-300_000, 300_000]) expect(await verify(headers, first, { now: at + offMs })).toMatchObject({ id })
    for (const offMs of [-301_000, 301_000]) {
      await expect(verify(headers, first, { now: at + offMs })).rejects.toThrow(
        'Expected a message of the last 300 s, got one that is 301 s off.',
      )
    }
    expect(await verify(headers, first, { now: at + 301_000, toleranceSeconds: 600 })).toMatchObject({ id })
    await expect(verify(headers, first, { now: at + 61_000, toleranceSeconds: 60 })).rejects.toThrow(WebhookVerificationError)
  })
})

test('a secret that is not one is a fault of the program, and reported as such', async () => {
  for (const secrets of [[], 'secret', 'whsec_', 'whsec_%%', [first, 'whsec_']]) {
    await expect(verify({ ...sign(first) }, secrets)).rejects.toThrow(TypeError)
  }
})
