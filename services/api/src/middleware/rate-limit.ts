/**
 * How many requests an API key, or without keys a client address, may make within a window of time. Counted in Redis, so that all
 * replicas count together. Open paths are not counted. Knows nothing about jobs. Runs in the api.
 */
import type { MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import { ProblemError } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'
import type { RateLimit } from '../parse-rate-limit.ts'
import { publicOwner } from '../parse-api-keys.ts'
import { isOpenPath } from './api-keys.ts'
import { clientOf } from './client-address.ts'

export interface RateLimitOptions {
  redis: RedisConnection
  /** The first part of every key in Redis. */
  prefix: string
  limit: RateLimit
  /** The number of proxies in front of the api that each add to X-Forwarded-For; with 0 the header is not trusted. Default 0. */
  trustedProxies?: number
}

export function rateLimit({
  redis,
  prefix,
  limit,
  trustedProxies = 0,
}: RateLimitOptions): MiddlewareHandler<{ Variables: { owner: string } }> {
  const limiter = new RateLimiterRedis({
    storeClient: redis,
    keyPrefix: `${prefix}:rate`,
    points: limit.requests,
    duration: limit.windowSeconds,
  })
  const policy = `"default";q=${limit.requests};w=${limit.windowSeconds}`

  return createMiddleware(async function rateLimit(c, next) {
    if (isOpenPath(c.req.path)) return await next()
    const caller = c.var.owner === publicOwner ? `address:${clientOf(c, trustedProxies)}` : `key:${c.var.owner}`
    const { allowed, state } = await consume(limiter, caller)
    const resetSeconds = Math.max(1, Math.ceil(state.msBeforeNext / 1000))
    c.header('RateLimit-Policy', policy)
    c.header('RateLimit', `"default";r=${state.remainingPoints};t=${resetSeconds}`)
    if (!allowed) {
      const detail = `Expected at most ${limit.requests} requests in ${limit.windowSeconds} s, got more; the next will be accepted in ${resetSeconds} s.`
      throw new ProblemError('rate_limited', detail, { retryAfterSeconds: resetSeconds })
    }
    await next()
  })
}

async function consume(limiter: RateLimiterRedis, caller: string): Promise<{ allowed: boolean; state: RateLimiterRes }> {
  try {
    return { allowed: true, state: await limiter.consume(caller) }
  } catch (error) {
    if (error instanceof RateLimiterRes) return { allowed: false, state: error }
    throw new ProblemError('queue_unavailable', undefined, { retryAfterSeconds: 1, cause: error })
  }
}
