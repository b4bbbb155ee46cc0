/**
 * Signs a message according to Standard Webhooks: HMAC-SHA256 over id, timestamp and body, one signature for each secret, so that a receiver
 * that knows any of them accepts the message while secrets are being rotated. Pure. Runs in the api.
 */
import { Webhook } from 'standardwebhooks'

export interface SignedHeaders {
  'webhook-id': string
  /** The time of this attempt, in seconds since the epoch. */
  'webhook-timestamp': string
  /** `v1,BASE64`, one for each secret, separated by spaces. */
  'webhook-signature': string
}

export interface MessageToSign {
  id: string
  /** When the attempt is made, in ms since the epoch. Receivers refuse messages that are more than five minutes off. */
  at: number
  body: string
}

/** `secrets`: `whsec_` and base64, at least one. */
export function signMessage(secrets: readonly string[], { id, at, body }: MessageToSign): SignedHeaders {
  if (secrets.length === 0) throw new TypeError('Expected secrets to hold at least one, got none')
  const signatures = secrets.map((secret) => new Webhook(secret).sign(id, new Date(at), body))
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at / 1000)),
    'webhook-signature': signatures.join(' '),
  }
}
