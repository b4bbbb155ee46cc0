/**
 * Which models there are and who serves them. A model's record has no expiry; a worker's heartbeat does. Written by workers, read by the
 * api. Knows nothing about jobs.
 */
import { LRUCache } from 'lru-cache'
import { createKeys, heartbeatTtlSeconds } from '@easel/contract'
import type { ModelRecord, WorkerHeartbeat } from '@easel/contract'
import type { StoreOptions } from './store-options.ts'
import { toPairs } from './to-pairs.ts'

const modelMaxAgeMs = 1000

/** A model as the registry returns it. */
export interface RegisteredModel extends ModelRecord {
  /** The instant of its first announcement; later heartbeats do not move it. */
  created_at: string
  /** The instant of its latest announcement, which a worker repeats as long as it lives. */
  announced_at: string
}

/** A worker as the registry gives it. */
export interface LiveWorker extends WorkerHeartbeat {
  /** Instant of its last heartbeat. */
  heard_at: string
}

export interface ModelRegistry {
  announce(model: ModelRecord): Promise<void>
  heartbeat(worker: WorkerHeartbeat): Promise<void>
  /** Removes the heartbeat at once; for a worker that shuts down. */
  removeWorker(workerId: string): Promise<void>
  /** May be up to a second old, because it is needed for every job and hardly ever changes. */
  model(id: string): Promise<RegisteredModel | undefined>
  /** Every model ever announced, by id. */
  models(): Promise<RegisteredModel[]>
  /** The workers whose heartbeat has not expired. */
  workers(): Promise<LiveWorker[]>
}

export function createModelRegistry({ redis, prefix, now = Date.now }: StoreOptions): ModelRegistry {
  const keys = createKeys(prefix)
  const known = new LRUCache<string, RegisteredModel>({ max: 1000, ttl: modelMaxAgeMs })
  const readModels = async (ids: string[]): Promise<RegisteredModel[]> => {
    if (ids.length === 0) return []
    const [texts, created, announced] = await Promise.all([
      redis.mget(ids.map((id) => keys.model(id))),
      redis.hmget(keys.modelsCreated, ...ids),
      redis.hmget(keys.modelsAnnounced, ...ids),
    ])
    return texts.flatMap((text, i) => {
      if (text === null) return []
      const model = JSON.parse(text) as ModelRecord
      // It was announced by a worker of an earlier version that did not record this.
      const toInstant = (ms: string | null | undefined): string => (ms == null ? model.updated_at : new Date(Number(ms)).toISOString())
      return [{ ...model, created_at: toInstant(created[i]), announced_at: toInstant(announced[i]) }]
    })
  }
  return {
    async announce(model) {
      const transaction = redis.multi().set(keys.model(model.id), JSON.stringify(model)).sadd(keys.models, model.id)
      await transaction.hsetnx(keys.modelsCreated, model.id, now()).hset(keys.modelsAnnounced, model.id, now()).exec()
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
      const [model] = await readModels([id])
      if (model !== undefined) known.set(id, model)
      return model
    },

    async models() {
      return await readModels((await redis.smembers(keys.models)).sort())
    },

    async workers() {
      const pairs = toPairs(await redis.zrange(keys.workers, now(), '+inf', 'BYSCORE', 'WITHSCORES'))
      if (pairs.length === 0) return []
      const texts = await redis.mget(pairs.map(([id]) => keys.worker(id)))
      return texts.flatMap((text, i) => {
        if (text === null) return []
        const heardAt = Number(pairs[i]?.[1]) - heartbeatTtlSeconds * 1000
        return [{ ...(JSON.parse(text) as WorkerHeartbeat), heard_at: new Date(heardAt).toISOString() }]
      })
    },
  }
}
