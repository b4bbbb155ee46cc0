/** GET /v1/capabilities: the models, what they take, and how many workers serve each now. */
import { OpenAPIHono, createRoute } from '@hono/zod-openapi'
import { capabilitiesSchema } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { countWorkers } from '../jobs/queue-estimate.ts'
import { describeProblems } from '../middleware/problem.ts'

export function capabilitiesRoutes({ registry }: Pick<AppDeps, 'registry'>) {
  const app: Api = new OpenAPIHono<AppEnv>()
  const route = createRoute({
    method: 'get',
    path: '/v1/capabilities',
    summary: 'List the models',
    responses: {
      200: { description: 'Every model that a worker has announced.', content: { 'application/json': { schema: capabilitiesSchema } } },
      ...describeProblems('queue_unavailable'),
    },
  })
  return app.openapi(route, async (c) => {
    const [models, workers] = await Promise.all([registry.models(), registry.workers()])
    const listed = models.map(({ id, defaults, limits }) => {
      return { id, defaults, limits, workers: countWorkers(workers, id) }
    })
    return c.json({ models: listed }, 200)
  })
}
