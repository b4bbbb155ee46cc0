/**
 * GET /metrics for Prometheus: what this process counts and, from one replica at a time, the state of the whole service. Needs no key, because
 * it contains numbers and no prompts or ids; operators who do not want it to be public can block the path at the proxy.
 */
import { Hono } from 'hono'
import type { AppDeps, AppEnv } from '../app-deps.ts'
import { createServiceMetrics } from '../metrics/service-metrics.ts'

export function metricsRoutes(deps: Parameters<typeof createServiceMetrics>[0] & Pick<AppDeps, 'metrics'>): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  const renderService = createServiceMetrics(deps)
  app.get('/metrics', async (c) => {
    const { metrics } = deps
    // The process's own metrics must be available even while Redis is down.
    const service = await renderService().catch((error: unknown) => {
      c.var.logger.warn({ err: error }, 'the state of the service cannot be read')
      return ''
    })
    return c.body((await metrics.render()) + service, 200, { 'Content-Type': metrics.contentType })
  })
  return app
}
