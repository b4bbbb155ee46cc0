/** Failed jobs as operators look at them: why, whose and when, without what was asked for. Reads fields of records, never a whole one. */
import type { JobError, Keys } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

export interface FailedJob {
  id: string
  owner: string
  model: string
  error: JobError
  /** Instant of its end, ms. */
  endedAt: number
}

/** Those that were made last, newest first. */
export async function listFailedJobs({ redis, keys }: { redis: RedisConnection; keys: Keys }, limit: number): Promise<FailedJob[]> {
  const ids = await redis.zrange(keys.index('', 'failed'), '+', '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
  const records = await Promise.all(ids.map(async (id) => await redis.hmget(keys.job(id), 'owner', 'model', 'error', 'completed_at')))
  return ids.flatMap((id, i) => {
    const [owner, model, error, endedAt] = records[i] ?? []
    // Deleted since, or made by an Easel that did not keep the model apart.
    if (owner == null || error == null) return []
    return [{ id, owner, model: model ?? '', error: JSON.parse(error) as JobError, endedAt: Number(endedAt) }]
  })
}
