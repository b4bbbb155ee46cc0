/**
 * Accepts a webhook message only if the service has signed it (Standard Webhooks, HMAC-SHA256 over id, timestamp and body). Needs
 * WebCrypto and nothing else, so that it runs in workers and edge runtimes too.
 */
import type { WebhookBody } from '@easel/contract'
import { WebhookVerificationError } from './errors.ts'

export interface VerifyWebhookOptions {
  /** How many seconds the message's timestamp may differ from now, above 0. Default: 300. */
  toleranceSeconds?: number | undefined
  /** The current time, in milliseconds since the epoch. Default: the clock. */
  now?: number | undefined
}

/** A message of the service. */
export interface WebhookMessage extends WebhookBody {
  /** `webhook-id`, which is the same whenever this message is sent again. */
  id: string
}

/**
 * Returns the message or throws a WebhookVerificationError.
 *
 * `body`: the bytes or the text exactly as they arrived, not parsed and serialised again. `headers`: those of the request. `secrets`: `whsec_…`. While
 * secrets are being changed there may be several, and a signature with any of them is enough.
 */
export async function verifyWebhook(
  body: string | Uint8Array | ArrayBuffer,
  headers: Headers | Readonly<Record<string, string | string[] | undefined>>,
  secrets: string | readonly string[],
  { toleranceSeconds = 300, now = Date.now() }: VerifyWebhookOptions = {},
): Promise<WebhookMessage> {
  const keys = (typeof secrets === 'string' ? [secrets] : secrets).map(toKeyBytes)
  if (keys.length === 0) throw new TypeError('Expected secrets to hold at least one, got none')
  const id = readHeader(headers, 'webhook-id')
  const timestamp = readHeader(headers, 'webhook-timestamp')
  const signatures = readHeader(headers, 'webhook-signature')
  if (!/^\d{1,15}$/.test(timestamp)) throw new WebhookVerificationError(`Expected webhook-timestamp to be seconds, got ${timestamp}.`)
  const offSeconds = Math.abs(now / 1000 - Number(timestamp))
  if (offSeconds > toleranceSeconds) {
    throw new WebhookVerificationError(
      `Expected a message of the last ${toleranceSeconds} s, got one that is ${Math.round(offSeconds)} s off.`,
    )
  }
  const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : new Uint8Array(body)
  const signed = concat(new TextEncoder().encode(`${id}.${timestamp}.`), bytes)
  if (!(await isSignedByAny(signed, signatures, keys))) {
    throw new WebhookVerificationError('Expected a signature made with one of the secrets over exactly these bytes, got none.')
  }
  return { id, ...(JSON.parse(new TextDecoder().decode(bytes)) as WebhookBody) }
}

/** `signatures`: `v1,BASE64`, separated by spaces; other versions are ignored. */
async function isSignedByAny(
  signed: Uint8Array<ArrayBuffer>,
  signatures: string,
  keys: readonly Uint8Array<ArrayBuffer>[],
): Promise<boolean> {
  const given = signatures.split(' ').flatMap((signature) => (signature.startsWith('v1,') ? (fromBase64(signature.slice(3)) ?? []) : []))
  for (const bytes of keys) {
    const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
    // `verify` compares in constant time.
    for (const signature of given) if (await crypto.subtle.verify('HMAC', key, signature, signed)) return true
  }
  return false
}

function readHeader(headers: Headers | Readonly<Record<string, string | string[] | undefined>>, name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1]
  if (typeof value !== 'string' || value === '') throw new WebhookVerificationError(`Expected the header ${name}, got none.`)
  return value
}

function toKeyBytes(secret: string): Uint8Array<ArrayBuffer> {
  const bytes = secret.startsWith('whsec_') ? fromBase64(secret.slice('whsec_'.length)) : undefined
  if (bytes === undefined || bytes.length === 0) throw new TypeError('Expected a secret to be whsec_ and base64, got something else')
  return bytes
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  } catch {
    return undefined
  }
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}
