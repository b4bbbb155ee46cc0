/**
 * OpenAI's image endpoints: POST /v1/images/generations and /v1/images/edits, GET /v1/models. One request makes pictures and answers with
 * them, at once or as a stream. The base URL for its clients is `PUBLIC_URL/v1`.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { ProblemError } from '@easel/contract'
import type { JobRecord, RegisteredModel } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../../app-deps.ts'
import { listModels, lookUpModel } from '../../jobs/find-model.ts'
import type { SubmitRequest } from '../../jobs/resolve-input.ts'
import type { SubmitNeeds } from '../../jobs/submit-job.ts'
import { describeForm } from '../../inputs/describe-picture-body.ts'
import { withPlace } from '../../inputs/picture-places.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { submitThrough } from '../submit-through.ts'
import { waitForResult } from '../wait-for-result.ts'
import type { WaitForResultNeeds } from '../wait-for-result.ts'
import { openAiErrorSchema, refuseParameters, sendJobFailure, sendRefusal } from './errors.ts'
import { readEdit } from './read-edit.ts'
import { streamImages } from './stream-images.ts'
import { imagesResponseSchema, toImagesResponse, toUnixTime } from './to-images-response.ts'
import { editFormSchema, editRequestSchema, imagesRequestSchema, toParameter, toRequest } from './to-request.ts'
import type { ImagesRequest } from './to-request.ts'

const modelSchema = z
  .object({ id: z.string(), object: z.literal('model'), created: z.int(), owned_by: z.string() })
  .meta({ id: 'OpenAiModel' })
const errorContent = { 'application/json': { schema: openAiErrorSchema } }
const unauthorized = { description: 'A valid API key is required.', content: errorContent }
const tags = ['OpenAI']
const idempotencyHeaders = z.object({
  'idempotency-key': z.string().optional().meta({ description: 'The same key and body give the same pictures.' }),
})
const responses = {
  200: {
    description: 'The pictures. With `stream`: events `image_generation.partial_image` and `image_generation.completed`, or `error`.',
    content: { 'application/json': { schema: imagesResponseSchema }, 'text/event-stream': { schema: z.string() } },
  },
  400: { description: 'A parameter is refused.', content: errorContent },
  401: unauthorized,
  404: { description: 'No model of that name is served here.', content: errorContent },
  409: { description: 'The job was canceled.', content: errorContent },
  429: { description: 'Too many requests, or too many jobs are waiting.', content: errorContent },
  500: { description: 'The job failed.', content: errorContent },
  503: { description: 'No worker, queue or image store can be reached.', content: errorContent },
  504: { description: 'The job did not end in time and goes on; poll it at `Location`.', content: errorContent },
}

type OpenAiNeeds = SubmitNeeds & WaitForResultNeeds & Pick<AppDeps, 'storage'>

/** A job, and the form in which its pictures are to be returned. */
interface Asked {
  record: JobRecord
  body: ImagesRequest
  /** How many previews of each picture a stream has. */
  partialImages: number
  kind: 'image_edit' | 'image_generation'
}

// oxlint-disable-next-line max-lines-per-function -- one route after another, each of them short.
export function openAiRoutes(deps: OpenAiNeeds) {
  const { config } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseParameters })

  const generate = createRoute({
    method: 'post',
    path: '/v1/images/generations',
    tags,
    summary: 'Make pictures and wait for them (OpenAI)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      headers: idempotencyHeaders,
      body: { required: true, content: { 'application/json': { schema: imagesRequestSchema } } },
    },
    responses,
  })
  const withGenerate = app.openapi(generate, async (c) => {
    return await answer(deps, c, await submit(deps, c, c.req.valid('json')))
  })

  const edit = createRoute({
    method: 'post',
    path: '/v1/images/edits',
    tags,
    summary: 'Make pictures from a picture and wait for them (OpenAI)',
    description:
      'A form: `image` (one file), `mask` (a file that is transparent where to repaint; default: the transparency of `image`), and the ' +
      'fields of POST /v1/images/generations as text. With `stream` the events are `image_edit.partial_image` and `image_edit.completed`.',
    request: {
      headers: idempotencyHeaders,
      body: { required: true, content: describeForm(editFormSchema, { image: 'boat.png', prompt: 'a blue boat', n: 1, seed: 42 }) },
    },
    responses: {
      ...responses,
      413: { description: 'A picture has more bytes than this server accepts.', content: errorContent },
      415: { description: 'The body is not a form.', content: errorContent },
    },
  })
  const withEdit = withGenerate.openapi(edit, async (c) => {
    // The place is given back before the wait for the job, because by then its pictures are no longer in memory.
    const asked = await withPlace(c.var.owner, async () => {
      const { fields, image, mask } = await readEdit(deps, c)
      const parsed = editRequestSchema.safeParse(fields)
      if (!parsed.success) return sendRefusal(c, parsed.error, fields)
      const { input_fidelity: fidelity, ...body } = parsed.data
      return await submit(deps, c, body, { pictures: { image, mask }, ignored: fidelity == null ? [] : ['input_fidelity'] })
    })
    return asked instanceof Response ? asked : await answer(deps, c, asked)
  })

  const list = createRoute({
    method: 'get',
    path: '/v1/models',
    tags,
    summary: 'List the models (OpenAI)',
    responses: {
      200: {
        description: 'Every model that a worker has announced within a day.',
        content: { 'application/json': { schema: z.object({ object: z.literal('list'), data: z.array(modelSchema) }) } },
      },
      401: unauthorized,
      503: { description: 'Redis cannot be reached.', content: errorContent },
    },
  })
  const withList = withEdit.openapi(list, async (c) =>
    c.json({ object: 'list' as const, data: (await listModels(deps)).map(toModel) }, 200),
  )

  const retrieve = createRoute({
    method: 'get',
    path: '/v1/models/{model}',
    tags,
    summary: 'Read a model (OpenAI)',
    request: {
      params: z.object({
        model: z.string().meta({ description: 'Id of the model; a `/` in it is written %2F.', examples: ['tiny-scenes'] }),
      }),
    },
    responses: {
      200: { description: 'The model.', content: { 'application/json': { schema: modelSchema } } },
      404: { description: 'No model of that name is served here.', content: errorContent },
      401: unauthorized,
      503: { description: 'Redis cannot be reached.', content: errorContent },
    },
  })
  return withList.openapi(retrieve, async (c) => {
    const { model: id } = c.req.valid('param')
    const model = await lookUpModel(deps, id, { usualNames: true })
    if (model !== undefined) return c.json(toModel(model), 200)
    const errors = [{ field: 'model', expected: 'a model of GET /v1/models', received: id }]
    throw new ProblemError('model_not_found', `There is no model ${id}.`, { errors })
  })
}

/** Makes the job that a request asks for. `pictures` are those that came with it. */
async function submit(
  deps: OpenAiNeeds,
  c: Context<AppEnv>,
  body: ImagesRequest,
  { pictures, ignored: others = [] }: { pictures?: Pick<SubmitRequest, 'image' | 'mask'>; ignored?: string[] } = {},
): Promise<Asked> {
  const partialImages = body.stream === true ? (body.partial_images ?? 0) : 0
  const model = partialImages > 0 ? await lookUpModel(deps, body.model ?? deps.config.defaultModel, { usualNames: true }) : undefined
  const isEdit = pictures !== undefined
  const { request, ignored } = toRequest(body, { defaultSteps: model?.defaults.num_inference_steps ?? 1, isEdit })
  const options = { dialect: 'openai', ignored: [...ignored, ...others], rename: toParameter } as const
  const record = await submitThrough(deps, c, { ...request, ...pictures }, options)
  return { record, body, partialImages, kind: isEdit ? 'image_edit' : 'image_generation' }
}

/** Answers with the pictures of the job. */
async function answer(deps: OpenAiNeeds, c: Context<AppEnv>, { record, body, partialImages, kind }: Asked) {
  if (body.stream === true) return streamImages(deps, c, record, { partialImages, kind })
  const ended = await waitForResult(deps, c, record)
  if (ended.status !== 'succeeded') return sendJobFailure(c, ended.error)
  return c.json(await toImagesResponse(deps, ended, body.response_format ?? undefined), 200)
}

function toModel({ id, created_at }: RegisteredModel): z.infer<typeof modelSchema> {
  const slash = id.indexOf('/')
  return { id, object: 'model', created: toUnixTime(Date.parse(created_at)), owned_by: slash < 0 ? 'local' : id.slice(0, slash) }
}
