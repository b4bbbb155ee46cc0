/** Failed jobs as operators see them: why, whose and when, but not the requests. Reads fields of records, never a whole one. */
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

/** The failed jobs that were created last, newest first. */
export async function listFailedJobs({ redis, keys }: { redis: RedisConnection; keys: Keys }, limit: number): Promise<FailedJob[]> {
  const ids = await redis.zrange(keys.index('', 'failed'), '+', '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
  const records = await Promise.all(ids.map(async (id) => await redis.hmget(keys.job(id), 'owner', 'model', 'error', 'completed_at')))
  return ids.flatMap((id, i) => {
    const [owner, model, error, endedAt] = records[i] ?? []
    // The job has been deleted since, or an earlier Easel made it, which kept no field for the model.
    if (owner == null || error == null) return []
    return [{ id, owner, model: model ?? '', error: JSON.parse(error) as JobError, endedAt: Number(endedAt) }]
  })
}
