/**
 * Owns the signing secrets of webhooks: those of the configuration, or one that the first api to need it generates and stores in Redis, so that
 * all replicas sign alike, even after a restart.
 *
 * Invariant: where there are several owners, each has its own secrets, derived from these, so that none can forge messages that another's
 * receivers would accept. Runs in the api.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { RedisConnection } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

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

/** The secrets that sign an owner's messages, at least one. Asks Redis until it has received them once. */
export type SecretReader = (owner: string) => Promise<readonly string[]>

export function createSecretReader({
  apiKeys,
  config,
  logger,
  redis,
  store,
}: Pick<AppDeps, 'apiKeys' | 'config' | 'logger' | 'redis' | 'store'>): SecretReader {
  const configured = config.webhookSecrets
  let known: readonly string[] | undefined = configured.length > 0 ? configured : undefined
  return async (owner) => {
    known ??= [await readOrMake(redis, store.keys.webhookSecret, logger)]
    return apiKeys.countOwners() > 1 ? known.map((secret) => deriveSecret(secret, owner)) : known
  }
}

async function readOrMake(redis: RedisConnection, key: string, logger: Logger): Promise<string> {
  const made = `whsec_${randomBytes(32).toString('base64')}`
  const isMine = (await redis.set(key, made, 'NX')) === 'OK'
  const secret = isMine ? made : await redis.get(key)
  if (secret === null) throw new Error(`Expected a secret at ${key}, got none`)
  // Those who verify signatures must learn the secret somewhere: from the log of the one process that generated it.
  if (isMine) logger.warn(`WEBHOOK_SECRETS is not set: webhooks are signed with ${secret}, made now and kept in Redis at ${key}`)
  else logger.info(`WEBHOOK_SECRETS is not set: webhooks are signed with the secret kept in Redis at ${key}`)
  return secret
}

/** An owner's own secret: HMAC-SHA256 of the owner's name with the bytes of the common secret as the key. */
export function deriveSecret(secret: string, owner: string): string {
  const bytes = Buffer.from(secret.slice('whsec_'.length), 'base64')
  return `whsec_${createHmac('sha256', bytes).update(`easel webhooks of ${owner}`).digest('base64')}`
}
