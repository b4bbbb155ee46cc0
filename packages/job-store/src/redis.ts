/** Makes Redis connections with the settings each use needs. Every connection has an error listener: without one, ioredis ends the process. */
import { Redis } from 'ioredis'

export interface RedisOptions {
  /** `redis://` or `rediss://` URL. */
  url: string
  /**
   * `request`: commands fail within about a second while Redis is away, so that HTTP callers get their 503.
   * `worker`: commands wait for Redis to come back, for ever; BullMQ's workers and subscriptions need this.
   */
  use: 'request' | 'worker'
  /** Told of every connection error; ioredis reconnects by itself. */
  onError: (error: Error) => void
}

export function createRedis({ url, use, onError }: RedisOptions): Redis {
  const redis = new Redis(url, {
    ...(use === 'request' ? { enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 5000 } : { maxRetriesPerRequest: null }),
    connectTimeout: 2000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 1000),
  })
  redis.on('error', onError)
  return redis
}

/** Resolves at the first `ready`, or rejects when there is none within the time. */
export async function waitUntilReady(redis: Redis, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      redis.off('ready', onReady)
      reject(new Error(`Expected Redis to answer within ${timeoutMs} ms, got none: is REDIS_URL right?`))
    }, timeoutMs)
    const onReady = (): void => {
      clearTimeout(timer)
      resolve()
    }
    redis.once('ready', onReady)
  })
}
