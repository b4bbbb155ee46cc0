/** The attempts to deliver a job's messages, as a list of JSON in Redis, oldest first, that is removed with the job. Runs in the api. */
import { maxWebhookAttempts } from '@easel/contract'
import type { Keys, WebhookAttempt } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'

/** The list expires this many seconds after the latest attempt, in case the job was deleted at that moment; longer than any wait for a retry. */
const lifeSeconds = 7 * 24 * 3600

export async function addAttempt(redis: RedisConnection, keys: Keys, jobId: string, attempt: WebhookAttempt): Promise<void> {
  const key = keys.webhookAttempts(jobId)
  const transaction = redis.multi().rpush(key, JSON.stringify(attempt)).ltrim(key, -maxWebhookAttempts, -1).expire(key, lifeSeconds)
  const replies = await transaction.exec()
  for (const [error] of replies ?? []) if (error !== null) throw error
}

export async function listAttempts(redis: RedisConnection, keys: Keys, jobId: string): Promise<WebhookAttempt[]> {
  return (await redis.lrange(keys.webhookAttempts(jobId), 0, -1)).map((entry) => JSON.parse(entry) as WebhookAttempt)
}
