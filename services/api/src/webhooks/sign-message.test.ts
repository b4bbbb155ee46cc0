import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { signMessage } from './sign-message.ts'

const secret = (byte: number): string => `whsec_${Buffer.alloc(32, byte).toString('base64')}`
const message = { id: 'msg_1_completed', at: Date.now(), body: '{"type":"job.completed","text":"Häuser 🏠"}' }

describe('a signed message', () => {
  test('is accepted by a receiver that knows any of the secrets, and by no other', () => {
    const headers = { ...signMessage([secret(1), secret(2)], message) }
    expect(new Webhook(secret(1)).verify(message.body, headers)).toEqual(JSON.parse(message.body))
    expect(new Webhook(secret(2)).verify(message.body, headers)).toEqual(JSON.parse(message.body))
    expect(() => new Webhook(secret(3)).verify(message.body, headers)).toThrow(/signature/)
  })

  test('is refused when its body, id or time has been changed', () => {
    const headers = { ...signMessage([secret(1)], message) }
    const webhook = new Webhook(secret(1))
    expect(() => webhook.verify(`${message.body} `, headers)).toThrow(/signature/)
    expect(() => webhook.verify(message.body, { ...headers, 'webhook-id': 'msg_2_completed' })).toThrow(/signature/)
    const later = String(Number(headers['webhook-timestamp']) + 1)
    expect(() => webhook.verify(message.body, { ...headers, 'webhook-timestamp': later })).toThrow(/signature/)
  })

  test('cannot be made without a secret', () => {
    expect(() => signMessage([], message)).toThrow('Expected secrets')
  })
})
