/**
 * Which models there are and who serves them. A model's record has no expiry; a worker's heartbeat does. Written by workers, read by the
 * api. Knows nothing about jobs.
 */
import { createKeys, heartbeatTtlSeconds } from '@easel/contract'
import type { ModelRecord, WorkerHeartbeat } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

export interface ModelRegistry {
  announce(model: ModelRecord): Promise<void>
  heartbeat(worker: WorkerHeartbeat): Promise<void>
  /** At once, when a worker ends in order. */
  removeWorker(workerId: string): Promise<void>
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
      const text = await redis.get(keys.model(id))
      return text === null ? undefined : (JSON.parse(text) as ModelRecord)
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
