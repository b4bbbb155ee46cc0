/**
 * Which models there are and who serves them. A model's record has no expiry; a worker's heartbeat does. Written by workers, read by the
 * api. Knows nothing about jobs.
 */
import { LRUCache } from 'lru-cache'
import { createKeys, heartbeatTtlSeconds } from '@easel/contract'
import type { ModelRecord, WorkerHeartbeat } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

const modelMaxAgeMs = 1000

export interface ModelRegistry {
  announce(model: ModelRecord): Promise<void>
  heartbeat(worker: WorkerHeartbeat): Promise<void>
  /** At once, when a worker ends in order. */
  removeWorker(workerId: string): Promise<void>
  /** At most a second old: it is asked for with every job and hardly ever changes. */
  model(id: string): Promise<ModelRecord | undefined>
  /** Every model ever announced, by id. */
  models(): Promise<ModelRecord[]>
  /** Workers whose heartbeat has not run out. */
  workers(): Promise<WorkerHeartbeat[]>
}

export function createModelRegistry({
  redis,
  prefix,
  now = Date.now,
}: {
  redis: RedisConnection
  prefix: string
  now?: () => number
}): ModelRegistry {
  const keys = createKeys(prefix)
  const known = new LRUCache<string, ModelRecord>({ max: 1000, ttl: modelMaxAgeMs })
  const readAll = async <T>(names: string[]): Promise<T[]> => {
    if (names.length === 0) return []
    return (await redis.mget(names)).flatMap((text) => (text === null ? [] : [JSON.parse(text) as T]))
  }
  return {
    async announce(model) {
      await redis.multi().set(keys.model(model.id), JSON.stringify(model)).sadd(keys.models, model.id).exec()
    },

    async heartbeat(worker) {
      const transaction = redis.multi().set(keys.worker(worker.id), JSON.stringify(worker), 'EX', heartbeatTtlSeconds)
      await transaction
        .zadd(keys.workers, now() + heartbeatTtlSeconds * 1000, worker.id)
        .zremrangebyscore(keys.workers, '-inf', now())
        .exec()
    },

    async removeWorker(workerId) {
      await redis.multi().del(keys.worker(workerId)).zrem(keys.workers, workerId).exec()
    },

    async model(id) {
      const fresh = known.get(id)
      if (fresh !== undefined) return fresh
      const text = await redis.get(keys.model(id))
      if (text === null) return undefined
      const model = JSON.parse(text) as ModelRecord
      known.set(id, model)
      return model
    },

    async models() {
      const ids = (await redis.smembers(keys.models)).sort()
      return await readAll<ModelRecord>(ids.map((id) => keys.model(id)))
    },

    async workers() {
      const ids = await redis.zrange(keys.workers, now(), '+inf', 'BYSCORE')
      return await readAll<WorkerHeartbeat>(ids.map((id) => keys.worker(id)))
    },
  }
}
