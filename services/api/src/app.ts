/**
 * Owns how the api is assembled: the middleware in order, the routes, and the one place where errors become responses. Opens neither
 * connections nor ports. Runs in the api process; tests call it with the same dependencies.
 */
import { OpenAPIHono } from '@hono/zod-openapi'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import { webhookBodySchema } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from './app-deps.ts'
import { describeApi } from './describe-api.ts'
import { handleError, handleNotFound, sendMethodNotAllowed } from './dialects/dialect-errors.ts'
import { diffusersRoutes } from './dialects/diffusers/diffusers-routes.ts'
import { falRoutes } from './dialects/fal/fal-routes.ts'
import { falStorageRoutes } from './dialects/fal/storage-routes.ts'
import { openAiRoutes } from './dialects/openai/openai-routes.ts'
import { replicateFileRoutes } from './dialects/replicate/file-routes.ts'
import { replicateRoutes } from './dialects/replicate/replicate-routes.ts'
import { apiKeys } from './middleware/api-keys.ts'
import { corsWhereAsked } from './middleware/cors-where-asked.ts'
import { followRequestUrl } from './middleware/follow-request-url.ts'
import { refuseInvalid } from './middleware/problem.ts'
import { rateLimit } from './middleware/rate-limit.ts'
import { requestLog } from './middleware/request-log.ts'
import { requestMetrics } from './metrics/request-metrics.ts'
import { requestTrace } from './middleware/request-trace.ts'
import { createWrongKeyCounter } from './middleware/wrong-keys.ts'
import { safeHeaders } from './middleware/safe-headers.ts'
import { adminRoutes } from './routes/admin.ts'
import { capabilitiesRoutes } from './routes/capabilities.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { imageRoutes } from './routes/images.ts'
import { jobListRoutes } from './routes/job-list.ts'
import { jobRoutes } from './routes/jobs.ts'
import { pageRoutes } from './routes/pages.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { uploadRoutes } from './routes/uploads.ts'
import { usageRoutes } from './routes/usage.ts'
import { webhookRoutes } from './routes/webhooks.ts'

export interface AppOptions {
  /** The time between comments that keep an event stream alive, in milliseconds, 1 or more. Default 15000. */
  eventHeartbeatMs?: number
}

export function createApp(deps: AppDeps, { eventHeartbeatMs }: AppOptions = {}) {
  const { config, logger } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid, strict: false })
  app.onError(handleError)
  app.notFound(handleNotFound)

  app.use(requestId({ limitLength: 128 }))
  app.use(requestLog(logger))
  app.use(requestMetrics(deps.metrics))
  app.use(requestTrace(deps.tracing))
  app.use(corsWhereAsked(config.corsOrigins))
  app.use(safeHeaders())
  app.use(followRequestUrl(config))
  const countWrongKey = createWrongKeyCounter(deps)
  app.use(apiKeys(deps.apiKeys, countWrongKey))
  if (config.rateLimit !== undefined) {
    const { rateLimit: limit, queuePrefix: prefix, trustedProxies } = config
    app.use(rateLimit({ redis: deps.redis, prefix, limit, trustedProxies }))
  }
  app.use(methodNotAllowed({ app, onMethodNotAllowed: sendMethodNotAllowed }))

  // Before the welcome, which is for clients that do not want a page.
  app.route('/', pageRoutes(deps))
  app.route('/', metricsRoutes(deps))
  if (config.adminKey !== undefined) app.route('/', adminRoutes(deps, config.adminKey, countWrongKey))
  const routes = app
    .route('/', healthRoutes(deps))
    .route('/', capabilitiesRoutes(deps))
    .route('/', jobRoutes(deps))
    .route('/', jobListRoutes(deps))
    .route('/', eventRoutes(deps, { heartbeatMs: eventHeartbeatMs }))
    .route('/', webhookRoutes(deps))
    .route('/', uploadRoutes(deps))
    .route('/', usageRoutes(deps))
    .route('/', imageRoutes(deps))
    .route('/', diffusersRoutes(deps))
    .route('/', openAiRoutes(deps))
    .route('/', replicateRoutes(deps))
    .route('/', replicateFileRoutes(deps))
    .route('/', falStorageRoutes(deps))
    .route('/', falRoutes(deps))

  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' })
  app.openAPIRegistry.registerComponent('securitySchemes', 'header', { type: 'apiKey', in: 'header', name: 'X-API-Key' })
  app.openAPIRegistry.registerWebhook({
    method: 'post',
    path: 'job',
    operationId: 'receiveWebhook',
    summary: 'What the `webhook` of a job receives (Standard Webhooks)',
    tags: ['Jobs'],
    security: [],
    request: { body: { required: true, content: { 'application/json': { schema: webhookBodySchema } } } },
    responses: { 200: { description: 'Received; any 2xx will do.' }, 410: { description: 'Send no more messages about this job.' } },
  })
  // Keys may be added and removed while the server runs.
  const descriptions = new Map<boolean, string>()
  app.get('/openapi.json', (c) => {
    const secured = deps.apiKeys.keys.length > 0
    const description =
      descriptions.get(secured) ??
      JSON.stringify(describeApi(app.getOpenAPI31Document(toDocumentHead(config.isPublicUrlSet ? config.publicUrl : '/', secured))))
    descriptions.set(secured, description)
    return c.body(description, 200, { 'Content-Type': 'application/json' })
  })
  return routes
}

function toDocumentHead(publicUrl: string, secured: boolean): Parameters<Api['getOpenAPI31Document']>[0] {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Easel',
      version: '0.1.0',
      description: 'Text to image: post a prompt, get a job, poll it, fetch the picture.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    servers: [{ url: publicUrl }],
    ...(secured && { security: [{ bearer: [] }, { header: [] }] }),
  }
}

/** All routes with their requests and responses, from which a client gets its types (`hc<ApiRoutes>`). */
export type ApiRoutes = ReturnType<typeof createApp>
