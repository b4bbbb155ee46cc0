/**
 * POST /v1/jobs, GET and DELETE /v1/jobs/{id}, POST /v1/jobs/{id}/cancel and /replay, with their ways to wait and to poll. The modules in jobs/
 * define what a job is and how it is made.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { createJobRequestSchema, isEnded, jobSchema } from '@easel/contract'
import type { Job } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { Api, AppEnv } from '../app-deps.ts'
import { cancelJob } from '../jobs/cancel-job.ts'
import { deleteJob } from '../jobs/delete-job.ts'
import type { CancelNeeds } from '../jobs/cancel-job.ts'
import { findJob } from '../jobs/find-job.ts'
import { toJobEtag } from '../jobs/job-etag.ts'
import { toPublicPath } from '../public-url.ts'
import { refuseEveryField } from '../jobs/judge-by-model.ts'
import { replayJob } from '../jobs/replay-job.ts'
import { submitJob } from '../jobs/submit-job.ts'
import type { SubmitContext, SubmitNeeds, SubmittedJob } from '../jobs/submit-job.ts'
import { toJob } from '../jobs/to-job.ts'
import type { ToJobNeeds } from '../jobs/to-job.ts'
import { waitForEnd } from '../jobs/wait-for-end.ts'
import type { WaitNeeds } from '../jobs/wait-for-end.ts'
import { jsonBody } from '../middleware/json-body.ts'
import { matchesEtag } from '../middleware/matches-etag.ts'
import { parsePreferWait } from '../middleware/prefer-wait.ts'
import { describeProblems, refuseInvalid } from '../middleware/problem.ts'

/** How many seconds a client should wait before it polls a job. */
const pollSeconds = 1

const jobContent = { 'application/json': { schema: jobSchema } }
const preferHeader = z
  .string()
  .optional()
  .meta({ description: '`wait=SECONDS`: answer when the job has ended, or after that time. Capped by the server.', examples: ['wait=30'] })
/** The headers of requests that make a job. */
const submitHeaders = z.object({
  prefer: preferHeader,
  'idempotency-key': z.string().optional().meta({
    description: 'Makes a repeated request safe: the same key and body give the same job. 1 to 255 ASCII characters.',
  }),
})
const submitAnswers = {
  200: { description: 'The job has ended within the time of `Prefer: wait`.', content: jobContent },
  202: { description: 'The job is queued. Poll it at `Location`.', content: jobContent },
}
/** Why a job cannot be made, whether from a request or from a receipt. */
const submitProblems = [
  'invalid_request',
  'invalid_image',
  'image_too_large',
  'model_not_found',
  'lora_not_found',
  'idempotency_mismatch',
  'queue_full',
  'queue_unavailable',
  'no_worker',
] as const
const jobParams = z.object({ id: z.string().meta({ description: 'Id of the job.' }) })

type JobRouteNeeds = SubmitNeeds & CancelNeeds & ToJobNeeds & WaitNeeds

// oxlint-disable-next-line max-lines-per-function -- one route after another, each of them short.
export function jobRoutes(deps: JobRouteNeeds) {
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const create = createRoute({
    method: 'post',
    path: '/v1/jobs',
    summary: 'Submit a job',
    middleware: jsonBody(deps.config.maxBodyBytes),
    request: {
      headers: submitHeaders,
      body: { required: true, content: { 'application/json': { schema: createJobRequestSchema } } },
    },
    responses: {
      ...submitAnswers,
      ...describeProblems('unauthorized', 'rate_limited', 'malformed_body', 'body_too_large', 'unsupported_media_type', ...submitProblems),
    },
  })
  const withCreate = app.openapi(
    create,
    async (c) => {
      const submitted = await submitJob(deps, c.req.valid('json'), toSubmitContext(c))
      const { job, status } = await answerSubmit(deps, c, submitted)
      return c.json(job, status)
    },
    (parsed) => (parsed.success ? undefined : refuseEveryField(deps, parsed.error, (parsed as { data?: unknown }).data)),
  )

  const get = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}',
    summary: 'Read a job',
    request: {
      params: jobParams,
      headers: z.object({
        prefer: preferHeader,
        'if-none-match': z.string().optional().meta({ description: '`ETag` of the last answer: 304 when nothing has changed since.' }),
      }),
    },
    responses: {
      200: { description: 'The job as it is now; with `Retry-After` while it has not ended.', content: jobContent },
      304: { description: 'The job has not changed since the answer that `If-None-Match` names.' },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'expired', 'queue_unavailable'),
    },
  })
  const withGet = withCreate.openapi(get, async (c) => {
    const found = await findJob(deps, c.req.valid('param').id, c.var.owner)
    const { record } = await waitAsPreferred(deps, c, found)
    const job = await toJob(deps, record)
    const etag = toJobEtag(job)
    c.header('ETag', etag)
    // With keys, answers must not be stored; the middleware sets that header.
    if (deps.apiKeys.keys.length === 0) c.header('Cache-Control', 'private, no-cache')
    if (!isEnded(record.status)) c.header('Retry-After', String(pollSeconds))
    if (matchesEtag(c.req, etag)) return c.body(null, 304)
    return c.json(job, 200)
  })

  const cancel = createRoute({
    method: 'post',
    path: '/v1/jobs/{id}/cancel',
    summary: 'Cancel a job',
    request: { params: jobParams },
    responses: {
      200: { description: 'The job is canceled, or already was.', content: jobContent },
      202: { description: 'The job is running and is canceled at its next step.', content: jobContent },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'job_finished', 'expired', 'queue_unavailable'),
    },
  })
  const withCancel = withGet.openapi(cancel, async (c) => {
    const { record, ended } = await cancelJob(deps, c.req.valid('param').id, c.var.owner)
    c.var.logger.info({ jobId: record.id, status: record.status }, 'cancel accepted')
    return c.json(await toJob(deps, record), ended ? 200 : 202)
  })

  const replay = createRoute({
    method: 'post',
    path: '/v1/jobs/{id}/replay',
    summary: 'Make the pictures of a job again',
    description:
      'A new job with the parameters of the receipt. When it has succeeded, its `replay` says whether the files have the same bytes, and ' +
      'what differs in how they were made. Webhook, priority, timeout and previews of the first job are not repeated.',
    request: { params: jobParams, headers: submitHeaders },
    responses: {
      ...submitAnswers,
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'no_receipt', 'expired', ...submitProblems),
    },
  })
  const withReplay = withCancel.openapi(replay, async (c) => {
    const submitted = await replayJob(deps, c.req.valid('param').id, toSubmitContext(c))
    const { job, status } = await answerSubmit(deps, c, submitted)
    return c.json(job, status)
  })

  const remove = createRoute({
    method: 'delete',
    path: '/v1/jobs/{id}',
    summary: 'Delete a job and its pictures',
    description:
      'Ends the job if it has not ended, and deletes it with its pictures, its events and its webhook messages. Otherwise all of this is ' +
      'deleted RESULT_TTL seconds after the end of the job.',
    request: { params: jobParams },
    responses: {
      204: { description: 'The job has been deleted.' },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'queue_unavailable', 'storage_unavailable'),
    },
  })
  return withReplay.openapi(remove, async (c) => {
    const { id } = c.req.valid('param')
    await deleteJob(deps, id, c.var.owner)
    c.var.logger.info({ jobId: id }, 'job deleted')
    return c.body(null, 204)
  })
}

function toSubmitContext(c: Context<AppEnv>): SubmitContext {
  const { owner, requestId } = c.var
  return { owner, requestId, idempotencyKey: c.req.header('idempotency-key') }
}

/** Sets the headers of an answer to a request that made a job, after the preferred wait. */
async function answerSubmit(
  deps: JobRouteNeeds,
  c: Context<AppEnv>,
  { record: submitted, replayed }: SubmittedJob,
): Promise<{ job: Job; status: 200 | 202 }> {
  c.header('Location', toPublicPath(deps.config, `/v1/jobs/${submitted.id}`))
  if (replayed) c.header('Idempotency-Replayed', 'true')
  const { record, waited } = await waitAsPreferred(deps, c, submitted)
  if (!isEnded(record.status)) c.header('Retry-After', String(pollSeconds))
  return { job: await toJob(deps, record), status: waited && isEnded(record.status) ? 200 : 202 }
}

/** Waits for the end of the job for as long as the request prefers. */
async function waitAsPreferred(
  deps: JobRouteNeeds,
  c: Context<AppEnv>,
  record: JobRecord,
): Promise<{ record: JobRecord; waited: boolean }> {
  c.header('Vary', 'Prefer', { append: true })
  const seconds = parsePreferWait(c.req.header('prefer'), deps.config.preferWaitMaxSeconds)
  if (seconds === undefined) return { record, waited: false }
  c.header('Preference-Applied', `wait=${seconds}`)
  const { outcome, record: latest, error } = await waitForEnd(deps, record, { timeoutMs: seconds * 1000, left: c.req.raw.signal })
  // The caller must learn the job's id even if Redis has failed meanwhile.
  if (outcome === 'lost') c.var.logger.warn({ err: error, jobId: record.id }, 'the wait for the end of a job was interrupted')
  return { record: latest, waited: true }
}
