/** POST /v1/jobs, GET /v1/jobs/{id}, POST /v1/jobs/{id}/cancel. What a job is and how it is made is the business of jobs/. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { createJobRequestSchema, jobSchema } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../app.ts'
import { cancelJob } from '../jobs/cancel-job.ts'
import { findJob } from '../jobs/find-job.ts'
import { submitJob } from '../jobs/submit-job.ts'
import { toJob } from '../jobs/to-job.ts'
import { jsonBody } from '../middleware/json-body.ts'
import { describeProblems } from '../middleware/problem.ts'

/** Seconds that a client should let pass before it polls a job. */
const pollSeconds = 1

const jobContent = { 'application/json': { schema: jobSchema } }
const jobParams = z.object({ id: z.string().meta({ description: 'Id of the job.' }) })

export function jobRoutes(deps: AppDeps): Api {
  const app: Api = new OpenAPIHono<AppEnv>()

  const create = createRoute({
    method: 'post',
    path: '/v1/jobs',
    summary: 'Submit a job',
    middleware: jsonBody(deps.config.MAX_BODY_BYTES),
    request: { body: { required: true, content: { 'application/json': { schema: createJobRequestSchema } } } },
    responses: {
      202: { description: 'The job is queued. `Location` is where to poll it.', content: jobContent },
      ...describeProblems(
        'malformed_body',
        'body_too_large',
        'unsupported_media_type',
        'invalid_request',
        'model_not_found',
        'queue_full',
        'queue_unavailable',
        'no_worker',
      ),
    },
  })
  app.openapi(create, async (c) => {
    const { owner, requestId } = c.var
    const { record } = await submitJob(deps, c.req.valid('json'), { owner, requestId })
    c.header('Location', `/v1/jobs/${record.id}`)
    c.header('Retry-After', String(pollSeconds))
    return c.json(await toJob(deps, record), 202)
  })

  const get = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}',
    summary: 'Read a job',
    request: { params: jobParams },
    responses: {
      200: { description: 'The job as it stands.', content: jobContent },
      ...describeProblems('not_found', 'expired', 'queue_unavailable'),
    },
  })
  app.openapi(get, async (c) => {
    const record = await findJob(deps, c.req.valid('param').id, c.var.owner)
    return c.json(await toJob(deps, record), 200)
  })

  const cancel = createRoute({
    method: 'post',
    path: '/v1/jobs/{id}/cancel',
    summary: 'Cancel a job',
    request: { params: jobParams },
    responses: {
      200: { description: 'The job is canceled, now or already before.', content: jobContent },
      202: { description: 'The job is running and is canceled at its next step.', content: jobContent },
      ...describeProblems('not_found', 'job_finished', 'expired', 'queue_unavailable'),
    },
  })
  app.openapi(cancel, async (c) => {
    const { record, ended } = await cancelJob(deps, c.req.valid('param').id, c.var.owner)
    c.var.logger.info({ jobId: record.id, status: record.status }, 'cancel accepted')
    return c.json(await toJob(deps, record), ended ? 200 : 202)
  })
  return app
}
