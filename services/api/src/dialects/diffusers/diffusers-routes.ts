/**
 * The surface of diffusers' example server, for clients written against it: one request that waits for its pictures, and a status. Uses
 * the same jobs as /v1; differs in shape, in taking `null` as absent and in ignoring fields it does not know.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError, engineTelemetrySchema, generationFields, isEnded, maxImagesPerPrompt, maxInferenceSteps } from '@easel/contract'
import type { CreateJobRequest, WorkerHeartbeat } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../../app-deps.ts'
import { submitJob } from '../../jobs/submit-job.ts'
import { toImageUrl } from '../../jobs/to-job.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { describeProblems, refuseInvalid, sendProblem, toProblemError } from '../../middleware/problem.ts'

const inferenceRequestSchema = z
  .object({
    model: z.string().nullish(),
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
    memory: memorySchema.describe('Of all GPUs together; empty without one.'),
    active_inferences: z.int().describe('Jobs running now, on all workers.'),
    total_requests: z.int().describe('Jobs made by all replicas of the api.'),
    engine_memory_bytes: z.int().describe('Resident memory of all engine processes.'),
    workers: z.int().describe('Workers alive now.'),
    engines: z
      .array(engineTelemetrySchema.extend({ worker: z.string(), model: z.string() }))
      .describe('How the engine of each worker is doing.'),
  })
  .meta({ id: 'DiffusersStatus' })

export function diffusersRoutes(deps: AppDeps): Api {
  const { config, follower, registry, store } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  app.onError((error, c) => {
    const problem = toProblemError(error, c)
    // Clients of that server know one answer to a bad body.
    if (problem.code === 'malformed_body') return sendProblem(c, new ProblemError('invalid_request', problem.message))
    if (problem.code === 'internal') return sendProblem(c, new ProblemError('internal', `Error in processing: ${problem.message}`))
    return sendProblem(c, problem)
  })

  const inference = createRoute({
    method: 'post',
    path: '/api/diffusers/inference',
    summary: 'Make pictures and wait for them (diffusers example server)',
    middleware: jsonBody(config.maxBodyBytes),
    request: { body: { required: true, content: { 'application/json': { schema: inferenceRequestSchema } } } },
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
        'queue_full',
        'internal',
        'queue_unavailable',
        'no_worker',
        'wait_timeout',
      ),
    },
  })
  app.openapi(inference, async (c) => {
    const { prompt, ...optional } = c.req.valid('json')
    if (prompt.trim() === '') return sendProblem(c, new ProblemError('invalid_request', 'No prompt provided'), 400) as never
    const present = Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== null && value !== undefined))
    const request: CreateJobRequest = { prompt, ...present }
    const { owner, requestId } = c.var
    const { record } = await submitJob(deps, request, { owner, requestId })

    const ended = await follower.waitForEnd(record.id, { timeoutMs: config.inferenceWaitSeconds * 1000, signal: c.req.raw.signal })
    if (ended === undefined || !isEnded(ended.status)) {
      c.header('Location', `/v1/jobs/${record.id}`)
      throw new ProblemError('wait_timeout', `The job ${record.id} did not end within ${config.inferenceWaitSeconds} seconds and goes on.`)
    }
    if (ended.status !== 'succeeded') {
      const reason = ended.error?.message ?? 'The job was canceled.'
      return sendProblem(c, new ProblemError('internal', `Error in processing: ${reason}`)) as never
    }
    const images = ended.output?.images ?? []
    return c.json({ response: images.map((image) => toImageUrl(config.publicUrl, image.key)) }, 200)
  })

  const status = createRoute({
    method: 'get',
    path: '/api/status',
    summary: 'What is going on (diffusers example server)',
    responses: {
      200: { description: 'Counts over all workers and replicas.', content: { 'application/json': { schema: statusSchema } } },
      ...describeProblems('queue_unavailable'),
    },
  })
  app.openapi(status, async (c) => {
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
  return app
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
