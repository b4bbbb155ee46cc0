/**
 * Replicate's predictions (create by version or by model, read, list, cancel), models and the webhook secret. The base URL for its clients is
 * `PUBLIC_URL/v1`.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { ProblemError, isJobId } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../../app-deps.ts'
import { cancelJob } from '../../jobs/cancel-job.ts'
import type { CancelNeeds } from '../../jobs/cancel-job.ts'
import { findJob } from '../../jobs/find-job.ts'
import { lookUpModel } from '../../jobs/find-model.ts'
import type { SubmitNeeds } from '../../jobs/submit-job.ts'
import { listJobs } from '../../jobs/list-jobs.ts'
import { toJob } from '../../jobs/to-job.ts'
import type { ToJobNeeds } from '../../jobs/to-job.ts'
import { waitForEnd } from '../../jobs/wait-for-end.ts'
import type { WaitNeeds } from '../../jobs/wait-for-end.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { toPublicUrl } from '../../public-url.ts'
import { parsePreferWait } from '../../middleware/prefer-wait.ts'
import { refuseInvalid } from '../../middleware/problem.ts'
import { describeErrors, modelParams } from '../describe-routes.ts'
import { toModelIdOf, toOwnedPath } from '../model-name.ts'
import { submitThrough } from '../submit-through.ts'
import { replicateErrorSchema } from './errors.ts'
import { predictionSchema, toPrediction } from './to-prediction.ts'
import type { Prediction } from './to-prediction.ts'
import {
  predictionInputSchema,
  predictionRequestSchema,
  toInputField,
  toModelOfVersion,
  toRequest,
  versionedRequestSchema,
} from './to-request.ts'

const tags = ['Replicate']
const pageLength = 100

const predictionContent = { 'application/json': { schema: predictionSchema } }
const createdResponses = {
  201: { description: 'The prediction, ended if the request waited for its end.', content: predictionContent },
  202: { description: 'The prediction did not end within the time of `Prefer: wait`.', content: predictionContent },
}
const { refusals, absences } = describeErrors(replicateErrorSchema)

const createHeaders = z.object({
  prefer: z
    .string()
    .optional()
    .meta({ description: '`wait` or `wait=SECONDS`: answer when the prediction has ended, or after that time.' }),
  'cancel-after': z.string().optional().meta({
    description: 'Fail the prediction if it does not start within this time, or runs longer than it: `90`, `30s`, `5m`, `1h30m`.',
  }),
  'idempotency-key': z.string().optional().meta({ description: 'The same key and body give the same prediction.' }),
})
const idParams = z.object({ id: z.string().max(100) })

const modelSchema = z
  .object({
    url: z.string(),
    owner: z.string(),
    name: z.string(),
    description: z.string(),
    visibility: z.literal('private'),
    github_url: z.null(),
    paper_url: z.null(),
    license_url: z.null(),
    run_count: z.int(),
    cover_image_url: z.null(),
    default_example: z.null(),
    latest_version: z.object({
      id: z.string(),
      created_at: z.string(),
      cog_version: z.null(),
      openapi_schema: z.record(z.string(), z.unknown()),
    }),
  })
  .meta({ id: 'ReplicateModel' })

type ReplicateNeeds = SubmitNeeds & CancelNeeds & ToJobNeeds & WaitNeeds & Pick<AppDeps, 'readSecrets'>

// oxlint-disable-next-line max-lines-per-function -- one route after another, each of them short.
export function replicateRoutes(deps: ReplicateNeeds) {
  const { config } = deps
  const publicUrl = (): string => toPublicUrl(config)
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const create = createRoute({
    method: 'post',
    path: '/v1/predictions',
    tags,
    summary: 'Create a prediction (Replicate)',
    middleware: jsonBody(config.maxBodyBytes),
    request: { headers: createHeaders, body: { required: true, content: { 'application/json': { schema: versionedRequestSchema } } } },
    responses: { ...createdResponses, ...refusals },
  })
  const withCreate = app.openapi(create, async (c) => {
    const { version, ...body } = c.req.valid('json')
    const { prediction, status } = await predict(deps, c, body, toModelOfVersion(version))
    return c.json(prediction, status)
  })

  const createByModel = createRoute({
    method: 'post',
    path: '/v1/models/{owner}/{name}/predictions',
    tags,
    summary: 'Create a prediction of a model (Replicate)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      headers: createHeaders,
      params: modelParams,
      body: { required: true, content: { 'application/json': { schema: predictionRequestSchema } } },
    },
    responses: { ...createdResponses, ...refusals },
  })
  const withCreateByModel = withCreate.openapi(createByModel, async (c) => {
    const { owner, name } = c.req.valid('param')
    const { prediction, status } = await predict(deps, c, c.req.valid('json'), toModelIdOf(`${owner}/${name}`))
    return c.json(prediction, status)
  })

  const get = createRoute({
    method: 'get',
    path: '/v1/predictions/{id}',
    tags,
    summary: 'Read a prediction (Replicate)',
    request: { params: idParams },
    responses: { 200: { description: 'The prediction as it is now.', content: predictionContent }, ...absences },
  })
  const withGet = withCreateByModel.openapi(get, async (c) => {
    const record = await findJob(deps, c.req.valid('param').id, c.var.owner)
    return c.json(toPrediction(await toJob(deps, record), { publicUrl: publicUrl() }), 200)
  })

  const list = createRoute({
    method: 'get',
    path: '/v1/predictions',
    tags,
    summary: 'List predictions, newest first (Replicate)',
    request: { query: z.object({ cursor: z.string().refine(isJobId, 'a cursor from `next`').optional() }) },
    responses: {
      200: {
        description: 'A page; `next` is the URL of the next one. Jobs that were made in other ways are included.',
        content: {
          'application/json': {
            schema: z.object({ previous: z.null(), next: z.string().nullable(), results: z.array(predictionSchema) }),
          },
        },
      },
      ...refusals,
    },
  })
  const withList = withGet.openapi(list, async (c) => {
    const { cursor } = c.req.valid('query')
    const page = await listJobs(deps, c.var.owner, { limit: pageLength, before: cursor }, (job) =>
      toPrediction(job, { publicUrl: publicUrl() }),
    )
    const next = page.next === null ? null : `${publicUrl()}/v1/predictions?cursor=${page.next}`
    return c.json({ previous: null, next, results: page.items }, 200)
  })

  const cancel = createRoute({
    method: 'post',
    path: '/v1/predictions/{id}/cancel',
    tags,
    summary: 'Cancel a prediction (Replicate)',
    request: { params: idParams },
    responses: {
      200: { description: 'The prediction; one that had already ended is unchanged.', content: predictionContent },
      ...absences,
    },
  })
  const withCancel = withList.openapi(cancel, async (c) => {
    const { id } = c.req.valid('param')
    try {
      await cancelJob(deps, id, c.var.owner)
    } catch (error) {
      if (!(error instanceof ProblemError) || error.code !== 'job_finished') throw error
    }
    const record = await findJob(deps, id, c.var.owner)
    return c.json(toPrediction(await toJob(deps, record), { publicUrl: publicUrl() }), 200)
  })

  const getModel = createRoute({
    method: 'get',
    path: '/v1/models/{owner}/{name}',
    tags,
    summary: 'Read a model (Replicate)',
    request: { params: modelParams },
    responses: { 200: { description: 'The model.', content: { 'application/json': { schema: modelSchema } } }, ...absences },
  })
  const withGetModel = withCancel.openapi(getModel, async (c) => {
    const { owner, name } = c.req.valid('param')
    const model = await lookUpModel(deps, toModelIdOf(`${owner}/${name}`), { usualNames: true })
    if (model === undefined) throw new ProblemError('not_found', `There is no model ${owner}/${name}.`)
    const input = z.toJSONSchema(predictionInputSchema, { io: 'input' })
    const latest = {
      id: model.id,
      created_at: model.created_at,
      cog_version: null,
      openapi_schema: { components: { schemas: { Input: input, Output: { type: 'array', items: { type: 'string', format: 'uri' } } } } },
    }
    const nothing = { github_url: null, paper_url: null, license_url: null, cover_image_url: null, default_example: null }
    const description = `Text to image on ${model.runtime}, ${model.provider}.`
    const url = `${publicUrl()}/v1/models/${toOwnedPath(model.id)}`
    return c.json({ url, owner, name, description, visibility: 'private' as const, run_count: 0, ...nothing, latest_version: latest }, 200)
  })

  const getSecret = createRoute({
    method: 'get',
    path: '/v1/webhooks/default/secret',
    tags,
    summary: 'Read the signing secret of webhooks (Replicate)',
    description: 'Answered only if API_KEYS are set, because anyone who has the secret can forge messages that receivers would trust.',
    responses: {
      200: {
        description: 'The first secret that signs the caller’s messages.',
        content: { 'application/json': { schema: z.object({ key: z.string() }) } },
      },
      ...absences,
    },
  })
  return withGetModel.openapi(getSecret, async (c) => {
    if (deps.apiKeys.keys.length === 0) {
      throw new ProblemError(
        'not_found',
        'The secret is returned only if API_KEYS are set. The operator of this server finds it in WEBHOOK_SECRETS or in the log.',
      )
    }
    const [key = ''] = await deps.readSecrets(c.var.owner)
    c.header('Cache-Control', 'no-store')
    return c.json({ key }, 200)
  })
}

/** Submits the job, and waits for its end if the request prefers that. */
async function predict(
  deps: ReplicateNeeds,
  c: Context<AppEnv>,
  body: z.infer<typeof predictionRequestSchema>,
  model: string,
): Promise<{ prediction: Prediction; status: 201 | 202 }> {
  const { config } = deps
  const publicUrl = toPublicUrl(config)
  const record = body.input.aspect_ratio === undefined ? undefined : await lookUpModel(deps, model, { usualNames: true })
  const { request, ignored } = toRequest(body, { model, cancelAfter: c.req.header('cancel-after'), record })
  const submitted = await submitThrough(deps, c, request, { dialect: 'replicate', ignored, rename: toInputField })
  const seconds = parsePreferWait(c.req.header('prefer'), config.preferWaitMaxSeconds)
  if (seconds === undefined) return { prediction: toPrediction(await toJob(deps, submitted), { publicUrl }), status: 201 }
  const { outcome, record: latest } = await waitForEnd(deps, submitted, { timeoutMs: seconds * 1000, left: c.req.raw.signal })
  const prediction = toPrediction(await toJob(deps, latest), { publicUrl, waitedInVain: true })
  return { prediction, status: outcome === 'ended' ? 201 : 202 }
}
