/** Headers that keep browsers from treating an answer as anything other than what it declares. Knows nothing about routes. Runs in the api. */
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-deps.ts'

export function safeHeaders() {
  return createMiddleware<AppEnv>(async function safeHeaders(c, next) {
    c.header('X-Content-Type-Options', 'nosniff')
    await next()
  })
}
