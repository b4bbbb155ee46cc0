/**
 * Owns the signing secrets of webhooks: those of the configuration, or one that the first api to need it generates and stores in Redis, so that
 * all replicas sign alike, even after a restart.
 *
 * Invariant: if there are several owners, each has its own secrets, derived from these, so that none can forge messages that another's
 * receivers would accept. Runs in the api.
 */
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { JobStore, RedisConnection } from '@easel/job-store'
import type { ApiKeyRing } from '../api-key-ring.ts'
import type { ApiConfig } from '../config.ts'
import { deriveSecret } from './webhook-secret.ts'

export interface SecretReaderNeeds {
  apiKeys: Pick<ApiKeyRing, 'countOwners'>
  config: Pick<ApiConfig, 'webhookSecrets'>
  logger: Logger
  redis: RedisConnection
  store: Pick<JobStore, 'keys'>
}

/** The secrets that sign an owner's messages, at least one. A generated secret is read from Redis only until it is known. */
export type SecretReader = (owner: string) => Promise<readonly string[]>

export function createSecretReader({ apiKeys, config, logger, redis, store }: SecretReaderNeeds): SecretReader {
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
