/** GET /v1/jobs: the caller's own jobs, newest first, one page at a time. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { isJobId, jobListSchema, jobStatuses } from '@easel/contract'
import type { Api, AppEnv } from '../app-deps.ts'
import type { FindNeeds } from '../jobs/find-job.ts'
import { listJobs } from '../jobs/list-jobs.ts'
import { toPublicPath } from '../public-url.ts'
import type { ToJobNeeds } from '../jobs/to-job.ts'
import { describeProblems, refuseInvalid } from '../middleware/problem.ts'

const querySchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20).meta({ description: 'Most jobs on a page, 1 to 100. Default 20.' }),
  cursor: z.string().refine(isJobId, '`next` of the previous page').optional().meta({ description: '`next` of the previous page.' }),
  status: z.enum(jobStatuses).optional().meta({ description: 'Only jobs that are in this state now.' }),
})

export function jobListRoutes(deps: FindNeeds & ToJobNeeds) {
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  const list = createRoute({
    method: 'get',
    path: '/v1/jobs',
    summary: 'List jobs, newest first',
    request: { query: querySchema },
    responses: {
      200: {
        description: 'A page of jobs. `next`, and `Link` with `rel="next"`, lead to the next one. A page ends early at 1 MiB.',
        content: { 'application/json': { schema: jobListSchema } },
      },
      ...describeProblems('unauthorized', 'rate_limited', 'invalid_request', 'queue_unavailable'),
    },
  })
  return app.openapi(list, async (c) => {
    const { limit, cursor, status } = c.req.valid('query')
    const { items, next } = await listJobs(deps, c.var.owner, { limit, before: cursor, status }, (job) => job)
    if (next !== null) {
      const query = new URLSearchParams({ limit: String(limit), cursor: next, ...(status !== undefined && { status }) })
      c.header('Link', `<${toPublicPath(deps.config, '/v1/jobs')}?${query.toString()}>; rel="next"`)
    }
    return c.json({ jobs: items, next }, 200)
  })
}
