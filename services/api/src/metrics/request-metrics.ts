/** Counts every request by the pattern of the route that answered it, so that ids do not create series. Runs in the api. */
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import type { AppEnv } from '../app-deps.ts'
import type { ApiMetrics } from './api-metrics.ts'

/** The status under which proxies count such requests; it is never sent. */
const clientLeftStatus = 499

export function requestMetrics(metrics: ApiMetrics) {
  return createMiddleware<AppEnv>(async function requestMetrics(c, next) {
    const startedAt = performance.now()
    await next()
    const pattern = routePath(c, -1)
    // Only middleware matched, so there is no such route.
    const route = pattern === '/*' || pattern === '*' ? 'none' : pattern
    // A client that has disconnected does not read its answer, so the answer's status means nothing.
    const status = c.req.raw.signal.aborted ? clientLeftStatus : c.res.status
    metrics.countRequest({ method: c.req.method, route, status }, (performance.now() - startedAt) / 1000)
  })
}
