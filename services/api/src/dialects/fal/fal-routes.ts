/**
 * fal's queue under /fal/queue, its waiting endpoint under /fal/run, and /fal/proxy for its client. `unwrap-proxied.ts` turns requests to the
 * last one into requests to the other two.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { ProblemError, isEnded } from '@easel/contract'
import type { Job } from '@easel/contract'
import type { JobRecord, StreamedJobEvent } from '@easel/job-store'
import type { Api, AppEnv } from '../../app-deps.ts'
import { sendEvents } from '../../events/send-events.ts'
import { cancelJob } from '../../jobs/cancel-job.ts'
import type { CancelNeeds } from '../../jobs/cancel-job.ts'
import { findJob } from '../../jobs/find-job.ts'
import { lookUpModel } from '../../jobs/find-model.ts'
import type { SubmitNeeds } from '../../jobs/submit-job.ts'
import { toJob } from '../../jobs/to-job.ts'
import type { ToJobNeeds } from '../../jobs/to-job.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { toPublicUrl } from '../../public-url.ts'
import { refuseInvalid } from '../../middleware/problem.ts'
import { describeErrors, modelParams } from '../describe-routes.ts'
import { toModelIdOf } from '../model-name.ts'
import { submitThrough } from '../submit-through.ts'
import { waitForResult } from '../wait-for-result.ts'
import type { WaitForResultNeeds } from '../wait-for-result.ts'
import { falErrorSchema } from './errors.ts'
import { falInputSchema, toFalField, toRequest } from './to-request.ts'
import { falResultSchema, falStatusSchema, toFailure, toLogs, toResult, toStatus } from './to-result.ts'
import { proxyPath } from './unwrap-proxied.ts'

const tags = ['fal']
const requestParams = modelParams.extend({ id: z.string().max(100) })
const logsQuery = z.object({ logs: z.enum(['0', '1', 'true', 'false']).optional().meta({ description: '1: with log lines. Default 0.' }) })
const submitHeaders = z.object({
  'x-fal-queue-priority': z.string().optional().meta({ description: '`normal` or `low`.' }),
  'x-fal-request-timeout': z.string().optional().meta({ description: 'Seconds within which it must start.' }),
  'idempotency-key': z.string().optional().meta({ description: 'The same key and body give the same request.' }),
})
const errorContent = { 'application/json': { schema: falErrorSchema } }
const statusContent = { 'application/json': { schema: falStatusSchema } }
const resultContent = { 'application/json': { schema: falResultSchema } }
const { refusals: shared, absences } = describeErrors(falErrorSchema)
const refusals = { ...shared, 404: { description: 'No model of that name is served here.', content: errorContent } }

const failures = {
  400: { description: 'It is not completed yet, or was canceled.', content: errorContent },
  500: { description: 'It failed.', content: errorContent },
  504: {
    description:
      'It was not started within `x-fal-request-timeout`, or it did not end within the time that a request may wait, and goes on.',
    content: errorContent,
  },
}

type FalNeeds = SubmitNeeds & CancelNeeds & ToJobNeeds & WaitForResultNeeds

// oxlint-disable-next-line max-lines-per-function -- one route after another, each of them short.
export function falRoutes(deps: FalNeeds) {
  const { config, store } = deps
  const publicUrl = (): string => toPublicUrl(config)
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const submit = createRoute({
    method: 'post',
    path: '/fal/queue/{owner}/{name}',
    tags,
    summary: 'Submit to the queue (fal)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      params: modelParams,
      headers: submitHeaders,
      query: z.object({
        fal_webhook: z.string().optional().meta({ description: 'URL that receives a message at the end.' }),
        fal_max_queue_length: z.coerce
          .number()
          .int()
          .min(0)
          .optional()
          .meta({ description: 'Refuse (429) when more jobs than this wait.' }),
      }),
      body: { required: true, content: { 'application/json': { schema: falInputSchema } } },
    },
    responses: { 200: { description: 'In the queue.', content: statusContent }, ...refusals },
  })
  const withSubmit = app.openapi(submit, async (c) => {
    const { fal_webhook: webhook, fal_max_queue_length: most } = c.req.valid('query')
    const waiting = most === undefined ? 0 : await store.count('', 'queued')
    if (waiting > (most ?? 0))
      throw new ProblemError('queue_full', `Waiting jobs: ${waiting}. fal_max_queue_length is ${most}.`, { retryAfterSeconds: 5 })
    const record = await submitInput(deps, c, c.req.valid('json'), { ...c.req.valid('param'), webhook })
    return c.json(toStatus(await toJob(deps, record), { publicUrl: publicUrl(), logs: null }), 200)
  })

  const status = createRoute({
    method: 'get',
    path: '/fal/queue/{owner}/{name}/requests/{id}/status',
    tags,
    summary: 'State of a request (fal)',
    request: { params: requestParams, query: logsQuery },
    responses: {
      200: { description: 'It is completed, successfully or not.', content: statusContent },
      202: { description: 'It is waiting or running.', content: statusContent },
      ...absences,
    },
  })
  const withStatus = withSubmit.openapi(status, async (c) => {
    const job = await findRequest(deps, c, c.req.valid('param').id)
    const logs = wantsLogs(c.req.valid('query')) ? toLogs(await store.readEvents(job.id, '0')) : null
    return c.json(toStatus(job, { publicUrl: publicUrl(), logs }), isEnded(job.status) ? 200 : 202)
  })

  const stream = createRoute({
    method: 'get',
    path: '/fal/queue/{owner}/{name}/requests/{id}/status/stream',
    tags,
    summary: 'State of a request as it changes (fal, server-sent events)',
    request: { params: requestParams, query: logsQuery },
    responses: {
      200: {
        description: 'The stream; each event has the log lines that are new.',
        content: { 'text/event-stream': { schema: z.string() } },
      },
      ...absences,
    },
  })
  const withStream = withStatus.openapi(stream, async (c) => {
    const first = await findRequest(deps, c, c.req.valid('param').id)
    const withLogs = wantsLogs(c.req.valid('query'))
    return sendEvents(deps, c, { jobId: first.id }, async ({ stream, signal }) => {
      const write = async (job: Job, events: readonly StreamedJobEvent[]): Promise<void> => {
        const logs = withLogs ? toLogs(events) : null
        await stream.writeSSE({ data: JSON.stringify(toStatus(job, { publicUrl: publicUrl(), logs })) })
      }
      // The client takes the end of a stream for the end of the request, and text that is not JSON for an error.
      if (!(await writeStatuses(deps, first, signal, write)))
        await stream.writeSSE({ event: 'error', data: 'The stream ends before the request has ended; read its status.' })
    })
  })

  const result = createRoute({
    method: 'get',
    path: '/fal/queue/{owner}/{name}/requests/{id}',
    tags,
    summary: 'Result of a request (fal)',
    request: { params: requestParams },
    responses: {
      200: { description: 'The pictures.', content: resultContent },
      ...failures,
      ...absences,
    },
  })
  const withResult = withStream.openapi(result, async (c) => {
    const job = await findRequest(deps, c, c.req.valid('param').id)
    if (!isEnded(job.status)) return c.json({ detail: 'Request is still in progress.' }, 400)
    return sendEnded(c, job)
  })

  const cancel = createRoute({
    method: 'put',
    path: '/fal/queue/{owner}/{name}/requests/{id}/cancel',
    tags,
    summary: 'Cancel a request (fal)',
    request: { params: requestParams },
    responses: {
      202: {
        description: 'It is canceled, at its next step if it is running.',
        content: { 'application/json': { schema: z.object({ status: z.literal('CANCELLATION_REQUESTED') }) } },
      },
      400: {
        description: 'It has ended.',
        content: { 'application/json': { schema: z.object({ status: z.literal('ALREADY_COMPLETED') }) } },
      },
      404: {
        description: 'There is no such request.',
        content: { 'application/json': { schema: z.object({ status: z.literal('NOT_FOUND') }) } },
      },
    },
  })
  const withCancel = withResult.openapi(cancel, async (c) => {
    const { id } = c.req.valid('param')
    try {
      await cancelJob(deps, id, c.var.owner)
    } catch (error) {
      const code = error instanceof ProblemError ? error.code : undefined
      if (code === 'job_finished') return c.json({ status: 'ALREADY_COMPLETED' as const }, 400)
      if (code === 'not_found' || code === 'expired') return c.json({ status: 'NOT_FOUND' as const }, 404)
      throw error
    }
    c.header('X-Fal-Request-Id', id)
    return c.json({ status: 'CANCELLATION_REQUESTED' as const }, 202)
  })

  const run = createRoute({
    method: 'post',
    path: '/fal/run/{owner}/{name}',
    tags,
    summary: 'Make pictures and wait for them (fal)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      params: modelParams,
      headers: submitHeaders,
      body: { required: true, content: { 'application/json': { schema: falInputSchema } } },
    },
    responses: {
      200: { description: 'The pictures.', content: resultContent },
      ...failures,
      ...refusals,
    },
  })
  const withRun = withCancel.openapi(run, async (c) => {
    const record = await submitInput(deps, c, c.req.valid('json'), c.req.valid('param'))
    return sendEnded(c, await toJob(deps, await waitForResult(deps, c, record)))
  })

  // Only requests that could not be unwrapped get here.
  app.all(proxyPath, (c) => {
    const detail = 'Expected an https URL of queue.fal.run, fal.run or rest.fal.ai in x-fal-target-url; nothing else is offered here.'
    return c.json({ detail }, 412)
  })
  return withRun
}

async function submitInput(
  deps: FalNeeds,
  c: Context<AppEnv>,
  body: z.infer<typeof falInputSchema>,
  { owner, name, webhook }: { owner: string; name: string; webhook?: string | undefined },
): Promise<JobRecord> {
  const model = toModelIdOf(`${owner}/${name}`)
  const { request, ignored } = toRequest(body, {
    model,
    record: body.aspect_ratio == null ? undefined : await lookUpModel(deps, model, { usualNames: true }),
    webhook,
    priority: c.req.header('x-fal-queue-priority'),
    startTimeout: c.req.header('x-fal-request-timeout'),
  })
  const record = await submitThrough(deps, c, request, { dialect: 'fal', ignored, rename: toFalField })
  c.header('X-Fal-Request-Id', record.id)
  return record
}

async function findRequest(deps: FalNeeds, c: Context<AppEnv>, id: string): Promise<Job> {
  const job = await toJob(deps, await findJob(deps, id, c.var.owner))
  c.header('X-Fal-Request-Id', job.id)
  return job
}

/** Writes the job as it is now and after each event, with the events that are new. Returns whether the end was among them. */
async function writeStatuses(
  deps: FalNeeds,
  first: Job,
  signal: AbortSignal,
  write: (job: Job, events: readonly StreamedJobEvent[]) => Promise<void>,
): Promise<boolean> {
  if (!isEnded(first.status)) await write(first, [])
  let ended = false
  for await (const event of deps.follower.follow(first.id, { signal })) {
    if (event.type === 'preview') continue
    const record = await deps.store.get(first.id)
    if (record === undefined) break
    // Events from before the end are sent as still running, because COMPLETED ends the stream for the client.
    const job = await toJob(deps, record)
    ended = event.type === 'done'
    if (ended || !isEnded(job.status)) await write(job, [event])
    else if (event.type === 'progress') await write({ ...job, status: 'running' }, [event])
  }
  return ended
}

function wantsLogs({ logs }: z.infer<typeof logsQuery>): boolean {
  return logs === '1' || logs === 'true'
}

/** The result of an ended job, or the error that replaces it. */
function sendEnded(c: Context<AppEnv>, job: Job) {
  const failure = toFailure(job)
  if (failure === undefined) return c.json(toResult(job), 200)
  if (job.status === 'canceled') return c.json({ detail: failure }, 400)
  if (job.error?.code !== 'expired') return c.json({ detail: failure }, 500)
  // This header says that the client's own limit has passed, so it does not retry.
  c.header('X-Fal-Request-Timeout-Type', 'user')
  return c.json({ detail: failure }, 504)
}
