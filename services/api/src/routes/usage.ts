/** GET /v1/usage: what the caller has used of the device, and what is kept of it. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { UsageCounts } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { describeProblems } from '../middleware/problem.ts'

const countsSchema = z
  .object({
    gpu_seconds: z.number().describe('Time of the device that the jobs’ steps took: of each step the part of the job’s rows.'),
    jobs: z.int().describe('Jobs that ended, however.'),
    pictures: z.int(),
    bytes: z.int().describe('Bytes of pictures in the store.'),
  })
  .meta({ id: 'UsageCounts' })

const usageSchema = z
  .object({
    owner: z.string().describe('Whose usage it is: the name of the API key, its hash, or `public`.'),
    weight: z.number().describe('Share of the device when several owners have jobs waiting.'),
    today: countsSchema.describe('What ended since midnight UTC.'),
    retained: countsSchema.describe('Of the jobs that can still be read.'),
    inputs: z
      .object({ pictures: z.int(), bytes: z.int().describe('Bytes of these pictures in the store.') })
      .describe('Pictures to begin with: uploads, and those of the jobs that can still be read, each counted once.'),
    queued: z.object({ gpu_seconds: z.number().describe('Estimated time of the device of the jobs that wait.') }),
  })
  .meta({ id: 'Usage' })

export function usageRoutes({ apiKeys, usage }: Pick<AppDeps, 'apiKeys' | 'usage'>) {
  const app: Api = new OpenAPIHono<AppEnv>()
  const route = createRoute({
    method: 'get',
    path: '/v1/usage',
    summary: 'Tell what you have used',
    responses: {
      200: { description: 'Today, and of the jobs that are kept.', content: { 'application/json': { schema: usageSchema } } },
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

function toCounts({ gpuMs, jobs, pictures, bytes }: UsageCounts): z.infer<typeof countsSchema> {
  return { gpu_seconds: gpuMs / 1000, jobs, pictures, bytes }
}
