/** Gives every request a logger that carries its id, and writes one line when it has been answered. Knows nothing about routes. */
import { createMiddleware } from 'hono/factory'
import type { Logger } from 'pino'
import type { AppEnv } from '../app-deps.ts'
import { pathJobId } from './path-job-id.ts'

export function requestLog(logger: Logger) {
  return createMiddleware<AppEnv>(async function logRequest(c, next) {
    const startedAt = performance.now()
    c.set('logger', logger.child({ requestId: c.var.requestId }))
    await next()
    const ms = Math.round(performance.now() - startedAt)
    const { method, path } = c.req
    c.var.logger.debug({ method, path, jobId: pathJobId(path), status: c.res.status, ms }, 'request')
  })
}
