/** Puts every request in a span, as a child of the caller's span if one was sent. Probes and scrapes are not traced. Runs in the api. */
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import type { Tracing } from '@easel/process'
import type { AppEnv } from '../app-deps.ts'

const untracedPaths = new Set(['/livez', '/readyz', '/metrics'])

export function requestTrace(tracing: Tracing) {
  return createMiddleware<AppEnv>(async function requestTrace(c, next) {
    if (untracedPaths.has(c.req.path)) return await next()
    const { method } = c.req
    const attributes = { 'http.request.method': method, 'url.path': c.req.path }
    const headers = { traceparent: c.req.header('traceparent'), tracestate: c.req.header('tracestate') }
    await tracing.span(method, { kind: 'server', attributes, headers }, async (span) => {
      await next()
      const route = routePath(c, -1)
      span.rename(`${method} ${route}`)
      span.set({ 'http.route': route, 'http.response.status_code': c.res.status, 'easel.request_id': c.var.requestId })
    })
  })
}
