/** The attempts to deliver the messages of a job, as Redis keeps them: a list of JSON, oldest first, that goes when the job goes. Runs in the api. */
import { maxWebhookAttempts } from '@easel/contract'
import type { Keys, WebhookAttempt } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'

/** Seconds after the latest attempt when the list goes by itself, should the job have been deleted in that moment: more than any retry waits. */
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
