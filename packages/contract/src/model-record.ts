/**
 * What a worker announces about its model. It is written without expiry: limits stay known while no worker runs, so that jobs are accepted
 * while workers are scaled to zero or restarting. A separate heartbeat key shows which workers are alive.
 */
import { z } from 'zod'

export const modelDefaultsSchema = z.object({
  width: z.int(),
  height: z.int(),
  num_inference_steps: z.int(),
  guidance_scale: z.number(),
  max_sequence_length: z.int(),
})
export type ModelDefaults = z.infer<typeof modelDefaultsSchema>

export const modelLimitsSchema = z.object({
  size_multiple: z.int().describe('Width and height must be multiples of this: VAE scale × patch size.'),
  max_side: z.int().describe('Largest width or height in pixels.'),
  max_pixels: z.int().describe('Largest width × height.'),
  max_sequence_length: z.int().describe('Most tokens for the third text encoder.'),
  max_clip_skip: z.int().describe('Largest clip_skip.'),
  layers: z
    .int()
    .optional()
    .describe('Layers of the transformer that skip_guidance_layers may name, from 0 to below this. Absent or 0: none.'),
})
export type ModelLimits = z.infer<typeof modelLimitsSchema>

export const modelRecordSchema = z.object({
  id: z.string(),
  content_hash: z.string().nullable().describe('sha256 over the model’s files, in hex; null while it is being computed.'),
  runtime: z.string().describe('Name and version of the inference runtime.'),
  provider: z.string().describe('Execution provider the graphs run on.'),
  scheduler: z.object({ class: z.string(), config: z.record(z.string(), z.unknown()) }),
  defaults: modelDefaultsSchema,
  limits: modelLimitsSchema,
  loras: z.array(z.string()).optional().describe('LoRAs that a job may name. Absent: none.'),
  has_vae_encoder: z.boolean().optional().describe('Whether it can begin with a picture. Absent: it cannot.'),
  examples: z.array(z.string()).optional().describe('Prompts that show what the model is good at. Absent: it names none.'),
  step_ms: z
    .number()
    .nullable()
    .describe('Measured milliseconds of one denoising step, with guidance, of one default-sized image; null before the first.'),
  picture_ms: z
    .number()
    .nullish()
    .describe('Measured milliseconds to encode the texts of one default-sized image and to decode it; null before the first.'),
  updated_at: z.string(),
})
export type ModelRecord = z.infer<typeof modelRecordSchema>

/** The state of an engine. */
export const engineTelemetrySchema = z.object({
  steps: z.int().describe('Runs of the transformer since the engine process began.'),
  rows: z.int().describe('Rows in them: two for a picture with guidance.'),
  step_seconds: z.number().describe('Seconds that these runs took.'),
  wait_seconds: z.number().describe('Seconds that rows have waited for their run: the longest wait in each, summed.'),
  waiting_rows: z.int().describe('Rows that wait now.'),
  batching_gain: z.number().describe('Time that the rows would have taken one by one, over what they took.'),
  prompt_cache_hits: z.int().describe('Prompts that were not encoded again.'),
  prompt_cache_misses: z.int().describe('Prompts that were encoded.'),
  memory_estimated_bytes: z.int().describe('Estimated need of the process with all jobs in the engine.'),
  memory_waiting: z.int().describe('Jobs in the engine that wait for memory before they begin.'),
  memory_shortages: z.int().describe('How many times the runtime has run out of memory.'),
})
export type EngineTelemetry = z.infer<typeof engineTelemetrySchema>

/** What a worker reports with every heartbeat. */
export const workerHeartbeatSchema = z.object({
  id: z.string(),
  model: z.string(),
  concurrency: z.int(),
  active: z.int().describe('Jobs running now.'),
  device: z.string(),
  engine_memory_bytes: z.int().describe('Resident memory of the engine process.'),
  engine: engineTelemetrySchema.optional(),
  gpu: z.object({ memory_allocated_gb: z.number(), memory_reserved_gb: z.number() }).optional(),
  ready: z.boolean(),
})
export type WorkerHeartbeat = z.infer<typeof workerHeartbeatSchema>

/** The seconds between heartbeats, and the lifetime of the key. */
export const heartbeatSeconds = 5
export const heartbeatTtlSeconds = 20

export const capabilitiesSchema = z
  .object({
    models: z.array(
      z.object({
        id: z.string(),
        default: z.boolean().describe('Whether it is the model of requests that name none.'),
        defaults: modelDefaultsSchema,
        limits: modelLimitsSchema,
        accepts: z
          .object({ image: z.boolean(), mask: z.boolean(), loras: z.boolean(), skip_guidance_layers: z.boolean() })
          .describe('Fields that not every model takes, and whether this one does.'),
        loras: z.array(z.string()).describe('Ids of the LoRAs that a job may add to it.'),
        examples: z.array(z.string()).optional().describe('Prompts that show what the model is good at. Absent: it names none.'),
        workers: z.int().describe('Workers that can take jobs now.'),
      }),
    ),
  })
  .meta({ id: 'Capabilities' })
export type Capabilities = z.infer<typeof capabilitiesSchema>
