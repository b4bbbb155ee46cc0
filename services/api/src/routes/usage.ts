/** GET /v1/usage: how much device time the caller has used, and what is stored for it. */
import { OpenAPIHono, createRoute } from '@hono/zod-openapi'
import { usageSchema } from '@easel/contract'
import type { Usage } from '@easel/contract'
import type { UsageCounts } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { describeProblems } from '../middleware/problem.ts'

export function usageRoutes({ apiKeys, usage }: Pick<AppDeps, 'apiKeys' | 'usage'>) {
  const app: Api = new OpenAPIHono<AppEnv>()
  const route = createRoute({
    method: 'get',
    path: '/v1/usage',
    summary: 'Read your usage',
    responses: {
      200: { description: 'The usage of today, and of the jobs that are kept.', content: { 'application/json': { schema: usageSchema } } },
      ...describeProblems('unauthorized', 'queue_unavailable'),
    },
  })
  return app.openapi(route, async (c) => {
    const { owner } = c.var
    const { today, kept, inputs, queuedMs } = await usage.read(owner)
    const told = { today: toCounts(today), retained: toCounts(kept), inputs, queued: { gpu_seconds: queuedMs / 1000 } }
    return c.json({ owner, weight: apiKeys.weightOf(owner), ...told }, 200)
  })
}

function toCounts({ gpuMs, jobs, pictures, bytes }: UsageCounts): Usage['today'] {
  return { gpu_seconds: gpuMs / 1000, jobs, pictures, bytes }
}
