/**
 * Owns how the api is put together: middleware in its order, the routes, and the one place where errors become responses. Opens no
 * connection and no port. Runs in the api process; tests call it with the same dependencies.
 */
import { OpenAPIHono } from '@hono/zod-openapi'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import type { Api, AppDeps, AppEnv } from './app-deps.ts'
import { describeApi } from './describe-api.ts'
import { handleError, handleNotFound, sendMethodNotAllowed } from './dialects/dialect-errors.ts'
import { diffusersRoutes } from './dialects/diffusers/diffusers-routes.ts'
import { falRoutes } from './dialects/fal/fal-routes.ts'
import { openAiRoutes } from './dialects/openai/openai-routes.ts'
import { replicateRoutes } from './dialects/replicate/replicate-routes.ts'
import { apiKeys } from './middleware/api-keys.ts'
import { corsWhereAsked } from './middleware/cors-where-asked.ts'
import { refuseInvalid } from './middleware/problem.ts'
import { rateLimit } from './middleware/rate-limit.ts'
import { requestLog } from './middleware/request-log.ts'
import { requestMetrics } from './middleware/request-metrics.ts'
import { requestTrace } from './middleware/request-trace.ts'
import { createWrongKeyCounter } from './middleware/wrong-keys.ts'
import { adminRoutes } from './routes/admin.ts'
import { capabilitiesRoutes } from './routes/capabilities.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { imageRoutes } from './routes/images.ts'
import { jobListRoutes } from './routes/job-list.ts'
import { jobRoutes } from './routes/jobs.ts'
import { pageRoutes } from './routes/pages.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { webhookRoutes } from './routes/webhooks.ts'

export interface AppOptions {
  /** Milliseconds between the signs of life of an event stream, 1 or more. Default: 15000. */
  eventHeartbeatMs?: number
}

export function createApp(deps: AppDeps, { eventHeartbeatMs }: AppOptions = {}): Api {
  const { config, logger } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  app.onError(handleError)
  app.notFound(handleNotFound)

  app.use(requestId({ limitLength: 128 }))
  app.use(requestLog(logger))
  app.use(requestMetrics(deps.metrics))
  app.use(requestTrace(deps.tracing))
  app.use(corsWhereAsked(config.corsOrigins))
  const countWrongKey = createWrongKeyCounter(deps)
  app.use(apiKeys(deps.apiKeys, countWrongKey))
  if (config.rateLimit !== undefined) {
    const { rateLimit: limit, queuePrefix: prefix, trustedProxies } = config
    app.use(rateLimit({ redis: deps.redis, prefix, limit, trustedProxies }))
  }
  app.use(methodNotAllowed({ app, onMethodNotAllowed: sendMethodNotAllowed }))

  // Before the welcome, which is for those who want no page.
  app.route('/', pageRoutes(deps))
  app.route('/', healthRoutes(deps))
  app.route('/', metricsRoutes(deps))
  if (config.adminKey !== undefined) app.route('/', adminRoutes(deps, config.adminKey, countWrongKey))
  app.route('/', capabilitiesRoutes(deps))
  app.route('/', jobRoutes(deps))
  app.route('/', jobListRoutes(deps))
  app.route('/', eventRoutes(deps, eventHeartbeatMs === undefined ? {} : { heartbeatMs: eventHeartbeatMs }))
  app.route('/', webhookRoutes(deps))
  app.route('/', imageRoutes(deps))
  app.route('/', diffusersRoutes(deps))
  app.route('/', openAiRoutes(deps))
  app.route('/', replicateRoutes(deps))
  app.route('/', falRoutes(deps))

  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' })
  app.openAPIRegistry.registerComponent('securitySchemes', 'header', { type: 'apiKey', in: 'header', name: 'X-API-Key' })
  app.get('/openapi.json', (c) => {
    const document = app.getOpenAPI31Document({
      openapi: '3.1.0',
      info: {
        title: 'Easel',
        version: '0.1.0',
        description: 'Text to image: post a prompt, get a job, poll it, fetch the picture.',
        license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      },
      servers: [{ url: config.publicUrl }],
      ...(deps.apiKeys.keys.length > 0 && { security: [{ bearer: [] }, { header: [] }] }),
    })
    return c.json(describeApi(document))
  })
  return app
}
