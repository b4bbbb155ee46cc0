/** The format of a signing secret for webhooks, and how an owner's own secret is derived from the common one. Pure. */
import { createHmac } from 'node:crypto'

const secretPattern = /^whsec_[A-Za-z0-9+/]+={0,2}$/
/** The limits of the Standard Webhooks specification, in bytes. */
const [minSecretBytes, maxSecretBytes] = [24, 64]

/** Whether the text is `whsec_` and base64 of 24 to 64 bytes. */
export function isWebhookSecret(text: string): boolean {
  if (!secretPattern.test(text)) return false
  const bytes = Buffer.from(text.slice('whsec_'.length), 'base64')
  // The library that receivers use requires the padding.
  return bytes.length >= minSecretBytes && bytes.length <= maxSecretBytes && bytes.toString('base64') === text.slice('whsec_'.length)
}

/** An owner's own secret: HMAC-SHA256 of the owner's name with the bytes of the common secret as the key. */
export function deriveSecret(secret: string, owner: string): string {
  const bytes = Buffer.from(secret.slice('whsec_'.length), 'base64')
  return `whsec_${createHmac('sha256', bytes).update(`easel webhooks of ${owner}`).digest('base64')}`
}
