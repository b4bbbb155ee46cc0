/** Lets pages from other origins read our answers. Knows nothing about routes. */
import { cors } from 'hono/cors'
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-deps.ts'

const exposedHeaders = [
  'Location',
  'Retry-After',
  'ETag',
  'Link',
  'Preference-Applied',
  'RateLimit',
  'RateLimit-Policy',
  'Idempotency-Replayed',
  'X-Ignored-Fields',
  'X-Request-Id',
  'X-Should-Retry',
  'X-Fal-Request-Id',
  'X-Fal-Request-Timeout-Type',
]

/**
 * `origins`: which origins may read answers; `*` for all. Only requests with an Origin go through the framework's middleware, because it
 * copies every response.
 */
export function corsWhereAsked(origins: readonly string[]) {
  const answer = cors({ origin: origins.includes('*') ? '*' : [...origins], exposeHeaders: exposedHeaders, maxAge: 600 })
  return createMiddleware<AppEnv>(async function corsWhereAsked(c, next) {
    if (c.req.header('Origin') !== undefined) return await answer(c, next)
    // A cache must not give this answer to a page of another origin.
    c.header('Vary', 'Origin', { append: true })
    await next()
  })
}
