/** GET /v1/capabilities: the models, what they accept, and how many workers serve each now. */
import { OpenAPIHono, createRoute } from '@hono/zod-openapi'
import { capabilitiesSchema } from '@easel/contract'
import type { Api, AppEnv } from '../app-deps.ts'
import { listModels } from '../jobs/find-model.ts'
import type { ModelNeeds } from '../jobs/find-model.ts'
import { describeProblems } from '../middleware/problem.ts'

export function capabilitiesRoutes(deps: ModelNeeds) {
  const app: Api = new OpenAPIHono<AppEnv>()
  const route = createRoute({
    method: 'get',
    path: '/v1/capabilities',
    summary: 'List the models',
    responses: {
      200: {
        description: 'Every model that a worker has announced within a day.',
        content: { 'application/json': { schema: capabilitiesSchema } },
      },
      ...describeProblems('queue_unavailable'),
    },
  })
  return app.openapi(route, async (c) => {
    const models = await listModels(deps)
    const listed = models.map(({ id, defaults, limits, has_vae_encoder: image = false, loras = [], examples, workers, isDefault }) => {
      const accepts = { image, mask: image, loras: loras.length > 0, skip_guidance_layers: (limits.layers ?? 0) > 0 }
      return { id, default: isDefault, defaults, limits, accepts, loras, examples, workers }
    })
    return c.json({ models: listed }, 200)
  })
}
