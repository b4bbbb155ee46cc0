/** Lets pages of other origins read our answers. Knows nothing about routes. */
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
 * `origins`: who may read; `*` = everyone. Only a request with an Origin goes through the framework's middleware, which makes a second
 * response of every answer.
 */
export function corsWhereAsked(origins: readonly string[]) {
  const answer = cors({ origin: origins.includes('*') ? '*' : [...origins], exposeHeaders: exposedHeaders, maxAge: 600 })
  return createMiddleware<AppEnv>(async function corsWhereAsked(c, next) {
    if (c.req.header('Origin') !== undefined) return await answer(c, next)
    // A cache must not give this answer to a page that needs the other.
    c.header('Vary', 'Origin', { append: true })
    await next()
  })
}
