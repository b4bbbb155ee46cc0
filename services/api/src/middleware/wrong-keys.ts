/**
 * Limits how fast keys can be guessed: a number of wrong ones per minute from one client address, API keys and the operator's together,
 * with a log line for each. Requests with a valid key never get here, so no client is locked out by others behind the same address. Counted in
 * Redis, so that all replicas count together, and in the process while Redis is away. Runs in the api.
 */
import type { Context } from 'hono'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import { ProblemError } from '@easel/contract'
import type { AppDeps, AppEnv } from '../app-deps.ts'
import { clientOf } from './client-address.ts'
import { pathJobId } from './path-job-id.ts'

/** How many wrong keys a client may present in a minute before it gets a 429. */
const wrongKeysPerMinute = 20

/** Counts a wrong key. Throws `rate_limited` when there were too many; otherwise the caller answers. */
export type CountWrongKey = (c: Context<AppEnv>, kind: 'API key' | 'admin key') => Promise<void>

export function createWrongKeyCounter({ config, redis }: Pick<AppDeps, 'config' | 'redis'>): CountWrongKey {
  const limit = { points: wrongKeysPerMinute, duration: 60 }
  const limiter = new RateLimiterRedis({
    ...limit,
    storeClient: redis,
    keyPrefix: `${config.queuePrefix}:wrong-keys`,
    insuranceLimiter: new RateLimiterMemory(limit),
  })
  return async (c, kind) => {
    const client = clientOf(c, config.trustedProxies)
    try {
      await limiter.consume(client)
      const { path } = c.req
      c.var.logger.warn({ client, path, jobId: pathJobId(path) }, `wrong ${kind}`)
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error
      if (error.consumedPoints === wrongKeysPerMinute + 1) c.var.logger.warn({ client }, 'too many wrong keys; more are refused unread')
      const retryAfterSeconds = Math.max(1, Math.ceil(error.msBeforeNext / 1000))
      throw new ProblemError('rate_limited', `Expected at most ${wrongKeysPerMinute} wrong keys in a minute, got more.`, {
        retryAfterSeconds,
      })
    }
  }
}
