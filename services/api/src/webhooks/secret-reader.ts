/**
 * Owns where the signing secrets come from: the configuration, or else one that the first api to need it makes and keeps in Redis, so that
 * all replicas sign alike and go on doing so after a restart. Runs in the api.
 */
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { RedisConnection } from '@easel/job-store'

const secretPattern = /^whsec_[A-Za-z0-9+/]+={0,2}$/
/** Limits of the Standard Webhooks specification, in bytes. */
const [minSecretBytes, maxSecretBytes] = [24, 64]

/** Whether the text is `whsec_` and base64 of 24 to 64 bytes. */
export function isWebhookSecret(text: string): boolean {
  if (!secretPattern.test(text)) return false
  const bytes = Buffer.from(text.slice('whsec_'.length), 'base64')
  // The library that receivers use wants the padding.
  return bytes.length >= minSecretBytes && bytes.length <= maxSecretBytes && bytes.toString('base64') === text.slice('whsec_'.length)
}

export interface SecretSource {
  /** Secrets from the configuration; empty: one is made. */
  configured: readonly string[]
  redis: RedisConnection
  /** Key in Redis of the secret that was made here. */
  key: string
  logger: Logger
}

/** A function that gives the secrets; it asks Redis until it has got them once. */
export function createSecretReader({ configured, redis, key, logger }: SecretSource): () => Promise<readonly string[]> {
  let known: readonly string[] | undefined = configured.length > 0 ? configured : undefined
  return async () => {
    if (known !== undefined) return known
    const made = `whsec_${randomBytes(32).toString('base64')}`
    const isMine = (await redis.set(key, made, 'NX')) === 'OK'
    const secret = isMine ? made : await redis.get(key)
    if (secret === null) throw new Error(`Expected a secret at ${key}, got none`)
    // Whoever checks signatures has to learn it from somewhere: the log of the one process that made it.
    if (isMine) logger.warn(`WEBHOOK_SECRETS is not set: webhooks are signed with ${secret}, made now and kept in Redis at ${key}`)
    else logger.info(`WEBHOOK_SECRETS is not set: webhooks are signed with the secret kept in Redis at ${key}`)
    known = [secret]
    return known
  }
}
