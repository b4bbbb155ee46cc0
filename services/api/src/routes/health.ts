/** The routes that orchestrators and people use first: /livez, /readyz and the welcome at /. None of them needs a key. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError } from '@easel/contract'
import { findRedisFault } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { listModels } from '../jobs/find-model.ts'
import { describeProblems } from '../middleware/problem.ts'
import { toPublicUrl } from '../public-url.ts'

type HealthNeeds = Pick<AppDeps, 'config' | 'logger' | 'now' | 'redis' | 'registry' | 'storage'>

/** The store is checked at most this often, however often /readyz is called. */
const storageCheckIntervalMs = 30_000

const welcomeSchema = z
  .object({ name: z.string(), message: z.string(), documentation: z.string(), capabilities: z.string() })
  .meta({ id: 'Welcome' })
const aliveSchema = z.object({ status: z.literal('alive') }).meta({ id: 'Alive' })
const readySchema = z
  .object({
    status: z.literal('ready'),
    models: z.array(z.string()).describe('Every model that a worker has announced within a day; jobs for it are accepted.'),
    workers: z
      .record(z.string(), z.int())
      .describe('By model: workers that can take its jobs now. With 0, its jobs wait until there is one.'),
    storage: z.enum(['ok', 'unavailable']).describe('Whether the image store could be written to when it was last checked.'),
  })
  .meta({ id: 'Ready' })

export function healthRoutes(deps: HealthNeeds) {
  const { config, logger, now, redis, registry, storage } = deps
  const app: Api = new OpenAPIHono<AppEnv>()

  const welcome = createRoute({
    method: 'get',
    path: '/',
    summary: 'Welcome',
    security: [],
    responses: { 200: { description: 'Where to go from here.', content: { 'application/json': { schema: welcomeSchema } } } },
  })
  const withWelcome = app.openapi(welcome, (c) => {
    const url = toPublicUrl(config)
    const [documentation, capabilities] = [`${url}/openapi.json`, `${url}/v1/capabilities`]
    return c.json({ name: 'Easel', message: 'Welcome. POST a prompt to /v1/jobs.', documentation, capabilities }, 200)
  })

  const livez = createRoute({
    method: 'get',
    path: '/livez',
    summary: 'Whether the process answers',
    security: [],
    responses: { 200: { description: 'It does.', content: { 'application/json': { schema: aliveSchema } } } },
  })
  const withLivez = withWelcome.openapi(livez, (c) => c.json({ status: 'alive' as const }, 200))

  let checkedAt = Number.NEGATIVE_INFINITY
  let lastCheck: Promise<'ok' | 'unavailable'>
  const checkStorage = (): Promise<'ok' | 'unavailable'> => {
    if (now() - checkedAt < storageCheckIntervalMs) return lastCheck
    checkedAt = now()
    lastCheck = storage.check().then(
      () => 'ok' as const,
      (error: unknown) => {
        logger.warn({ err: error }, 'the image store cannot be written to')
        return 'unavailable' as const
      },
    )
    return lastCheck
  }

  const readyz = createRoute({
    method: 'get',
    path: '/readyz',
    summary: 'Whether jobs are accepted: Redis answers and a model is known',
    security: [],
    responses: {
      200: { description: 'They are.', content: { 'application/json': { schema: readySchema } } },
      ...describeProblems('queue_unavailable', 'no_worker'),
    },
  })
  return withLivez.openapi(readyz, async (c) => {
    // The server may not be the one that answered at the start: it may be a replica after a failover, or have other settings.
    const fault = await findRedisFault(redis, { allowEvicting: config.allowEvictingRedis })
    if (fault !== undefined) throw new ProblemError('queue_unavailable', fault, { retryAfterSeconds: 30 })
    // A model that no worker has announced for a long time still accepts jobs.
    if ((await registry.models()).length === 0) throw new ProblemError('no_worker', undefined, { retryAfterSeconds: 5 })
    const listed = await listModels(deps)
    const models = listed.map(({ id }) => id)
    const workers = Object.fromEntries(listed.map(({ id, workers }) => [id, workers]))
    return c.json({ status: 'ready' as const, models, workers, storage: await checkStorage() }, 200)
  })
}
