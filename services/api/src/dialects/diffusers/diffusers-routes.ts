/**
 * The interface of diffusers' example server, for clients written against it: a request that waits for its pictures, and a status. Uses the
 * same jobs as /v1, but has other shapes, treats `null` as absent and ignores unknown fields.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import {
  ProblemError,
  createJobRequestSchema,
  engineTelemetrySchema,
  generationFields,
  maxImagesPerPrompt,
  maxInferenceSteps,
} from '@easel/contract'
import type { WorkerHeartbeat } from '@easel/contract'
import type { Api, AppEnv } from '../../app-deps.ts'
import type { SubmitNeeds } from '../../jobs/submit-job.ts'
import { toImageUrl } from '../../jobs/to-job.ts'
import { toPublicUrl } from '../../public-url.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { describeProblems, refuseInvalid, sendProblem, toProblemError } from '../../middleware/problem.ts'
import { dropNulls } from '../own-fields.ts'
import { submitThrough } from '../submit-through.ts'
import { waitForResult } from '../wait-for-result.ts'
import type { WaitForResultNeeds } from '../wait-for-result.ts'

const inferenceRequestSchema = z
  .object({
    model: createJobRequestSchema.shape.model.nullable(),
    prompt: z.string().meta({ description: generationFields.prompt.meta()?.description }),
    negative_prompt: z.string().nullish(),
    num_inference_steps: z.int().min(1).max(maxInferenceSteps).nullish().meta({ description: 'Default: the model’s.' }),
    num_images_per_prompt: z.int().min(1).max(maxImagesPerPrompt).nullish().meta({ description: 'Default 1.' }),
  })
  .meta({ id: 'DiffusersInference' })

const memorySchema = z.object({ memory_allocated_gb: z.number(), memory_reserved_gb: z.number(), device: z.string() }).partial()
const statusSchema = z
  .object({
    current_model: z.string(),
    type_models: z.literal('t2im'),
    memory: memorySchema.describe('Memory of all GPUs together; empty without one.'),
    active_inferences: z.int().describe('Jobs running now, on all workers.'),
    total_requests: z.int().describe('Jobs made by all replicas of the api.'),
    engine_memory_bytes: z.int().describe('Resident memory of all engine processes.'),
    workers: z.int().describe('Workers that are alive now.'),
    engines: z
      .array(engineTelemetrySchema.extend({ worker: z.string(), model: z.string() }))
      .describe('The state of each worker’s engine.'),
  })
  .meta({ id: 'DiffusersStatus' })

type DiffusersNeeds = SubmitNeeds & WaitForResultNeeds

export function diffusersRoutes(deps: DiffusersNeeds) {
  const { config, registry, store } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  app.onError((error, c) => {
    const problem = toProblemError(error, c)
    // That server has one answer to any bad body.
    if (problem.code === 'malformed_body') return sendProblem(c, new ProblemError('invalid_request', problem.message))
    if (problem.code === 'internal') return sendProblem(c, new ProblemError('internal', `Error in processing: ${problem.message}`))
    return sendProblem(c, problem)
  })

  const inference = createRoute({
    method: 'post',
    path: '/api/diffusers/inference',
    summary: 'Make pictures and wait for them (diffusers example server)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      headers: z.object({
        'idempotency-key': z.string().optional().meta({ description: 'The same key and body give the same pictures.' }),
      }),
      body: { required: true, content: { 'application/json': { schema: inferenceRequestSchema } } },
    },
    responses: {
      200: {
        description: 'URLs of the pictures.',
        content: { 'application/json': { schema: z.object({ response: z.array(z.string()) }).meta({ id: 'DiffusersResponse' }) } },
      },
      ...describeProblems(
        'malformed_body',
        'body_too_large',
        'unsupported_media_type',
        'invalid_request',
        'model_not_found',
        'lora_not_found',
        'idempotency_mismatch',
        'queue_full',
        'internal',
        'queue_unavailable',
        'no_worker',
        'stopping',
        'wait_timeout',
      ),
    },
  })
  const withInference = app.openapi(inference, async (c) => {
    const { prompt, ...optional } = dropNulls(c.req.valid('json'))
    if (prompt.trim() === '') return sendProblem(c, new ProblemError('invalid_request', 'No prompt provided'), 400)
    const record = await submitThrough(deps, c, { prompt, ...optional })
    const ended = await waitForResult(deps, c, record)
    if (ended.status !== 'succeeded') throw new ProblemError('internal', ended.error?.message ?? 'The job was canceled.')
    const images = ended.output?.images ?? []
    return c.json({ response: images.map((image) => toImageUrl(toPublicUrl(config), image.key)) }, 200)
  })

  const status = createRoute({
    method: 'get',
    path: '/api/status',
    summary: 'Read the state of the service (diffusers example server)',
    responses: {
      200: { description: 'Counts over all workers and replicas.', content: { 'application/json': { schema: statusSchema } } },
      ...describeProblems('queue_unavailable'),
    },
  })
  return withInference.openapi(status, async (c) => {
    const [workers, running, counters] = await Promise.all([registry.workers(), store.count('', 'running'), store.counters()])
    const body = {
      current_model: config.defaultModel,
      type_models: 't2im' as const,
      memory: sumMemory(workers),
      active_inferences: running,
      total_requests: counters['created'] ?? 0,
      engine_memory_bytes: workers.reduce((sum, worker) => sum + worker.engine_memory_bytes, 0),
      workers: workers.length,
      engines: workers.flatMap(({ id, model, engine }) => (engine === undefined ? [] : [{ worker: id, model, ...engine }])),
    }
    return c.json(body, 200)
  })
}

function sumMemory(workers: readonly WorkerHeartbeat[]): z.infer<typeof memorySchema> {
  const withGpu = workers.flatMap(({ device, gpu }) => (gpu === undefined ? [] : [{ device, ...gpu }]))
  if (withGpu.length === 0) return {}
  return {
    memory_allocated_gb: withGpu.reduce((sum, gpu) => sum + gpu.memory_allocated_gb, 0),
    memory_reserved_gb: withGpu.reduce((sum, gpu) => sum + gpu.memory_reserved_gb, 0),
    device: [...new Set(withGpu.map((gpu) => gpu.device))].join(', '),
  }
}
