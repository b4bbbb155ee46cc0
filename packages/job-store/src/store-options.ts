import type { RedisConnection } from './redis.ts'

/** What each part of the store needs. */
export interface StoreOptions {
  redis: RedisConnection
  /** The key prefix; a hash tag such as `{easel}` where Redis is a cluster. */
  prefix: string
  /** Clock, ms since the epoch. Default: Date.now. */
  now?: () => number
}
