/**
 * Owns the environment variables of the worker: their names, meaning, ranges and defaults. Only this file of the service reads an
 * environment, and not on import. Documentation and `.env.example` are generated from the descriptions.
 */
import { z } from 'zod'
import { defaultModel, imageMetadataLevels } from '@easel/contract'
import { checkRedisVariables, redisVariables, toRedisLocation } from '@easel/job-store'
import { loadingVariables } from '@easel/model-store/loading-variables'
import { processVariables, readVariables, toProcessConfig } from '@easel/process'
import type { Environment } from '@easel/process'
import { checkStorageVariables, storageVariables, toStorageOptions } from '@easel/storage'

const seconds = z.coerce.number().int().min(0)
const count = z.coerce.number().int().min(1)

export const workerVariables = {
  ...redisVariables,
  MODEL: z
    .string()
    .min(1)
    .optional()
    .describe(
      `Model that this worker serves: a preset, a folder, a .safetensors file, or a name under MODELS_DIR. Default: ${defaultModel}.`,
    ),
  MODEL_PATH: z.string().min(1).optional().describe('Another name for MODEL.'),
  MODELS_DIR: z.string().min(1).default('models').describe('Folder in which names of models are looked up.'),
  AUTO_PULL: z
    .stringbool()
    .default(false)
    .describe(
      'Whether a preset or repository of the hub (`owner/name`) that is not in MODELS_DIR is fetched into it, as `easel pull` does.',
    ),
  HF_TOKEN: z.string().min(1).optional().describe('Token of the hub, for models that are gated or private.'),
  HF_ENDPOINT: z
    .url({ protocol: /^https?$/, error: 'Expected an http:// or https:// URL' })
    .optional()
    .describe('Another hub. Default: https://huggingface.co.'),
  HTTPS_PROXY: z.string().min(1).optional().describe('Proxy through which a model is fetched. Unset: none.'),
  NO_PROXY: z.string().min(1).optional().describe('Hosts that are reached without HTTPS_PROXY, separated by commas.'),
  LORAS_DIR: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Folder of LoRAs that jobs may add to the model by name: NAME.safetensors, or a folder NAME as diffusers and peft save one. Read again every few seconds; all workers of a model need the same folder. Unset: none.',
    ),
  ...loadingVariables,
  CUDA_VISIBLE_DEVICES: z
    .string()
    .optional()
    .describe("GPUs that NVIDIA's runtime may use, by index or UUID, separated by commas; the model runs on the first. Unset: all."),
  WORKER_CONCURRENCY: count
    .max(1000)
    .default(8)
    .describe(
      'Jobs that run in the engine at once, 1 to 1000. Up to as many again may run if each belongs to an API key with no other job there, so that no key has to wait for the jobs of others to end.',
    ),
  MAX_RUNNING_JOBS_PER_KEY: z.coerce
    .number()
    .int()
    .min(0)
    .default(0)
    .describe(
      'Most jobs of one API key that run at once, on all workers together; the others wait. 0 = no limit. Set the same value on all workers.',
    ),
  MAX_BATCH_ROWS: count.optional().describe('Most rows in one run of the transformer. Unset: as many as pay off by measurement.'),
  BATCH_POLICY: z
    .enum(['fair', 'srpt', 'fcfs'])
    .default('fair')
    .describe(
      'Whose rows go first when not all that wait fit into one step. `fair`: the API key that has had the least device time for its weight, and among the jobs of one key as `srpt`; `srpt`: shortest remaining work, with ageing, so that no job starves; `fcfs`: first come, first served.',
    ),
  MAX_PIXELS: count.optional().describe('Largest width × height of a picture. Default: what the model takes, at most 2097152 (2 × 1024²).'),
  PNG_COMPRESSION_LEVEL: z.coerce
    .number()
    .int()
    .min(0)
    .max(9)
    .default(6)
    .describe('zlib level of PNG files, 0 (fast) to 9 (small). Set the same value on all workers, so that a retry gives the same bytes.'),
  IMAGE_METADATA: z
    .enum(imageMetadataLevels)
    .default('full')
    .describe(
      'What picture files say about themselves. `full`: prompts, settings, and the mark of generated media; `no-prompts`: all but the prompts; `none`: nothing. Set the same value on all workers, so that a retry gives the same bytes.',
    ),
  JOB_LOCK_DURATION: seconds
    .min(1)
    .max(3600)
    .default(30)
    .describe(
      'Seconds after which jobs of a worker that died go to another one. Determines the lock, its renewal and the check for stalled jobs.',
    ),
  ENGINE_STEP_TIMEOUT: seconds
    .min(1)
    .max(86_400)
    .default(300)
    .describe(
      'Seconds without a finished step, text or picture, for each image of a job, after which the engine process counts as hung and is replaced. Time in which it visibly computes on the CPU or reads its weights counts as a tenth, and four times the longest silence so far is always allowed.',
    ),
  ENGINE_LOAD_TIMEOUT: seconds
    .min(1)
    .max(86_400)
    .default(600)
    .describe(
      'Seconds for which the engine process may show no sign of work (computing, reading) while it loads the model, before it counts as hung and is killed. A load that is slow but makes progress is never ended.',
    ),
  ENGINE_MEMORY_LIMIT: count
    .optional()
    .describe(
      'Memory of the engine process in MiB, without mapped files, as weights may be. Jobs that would exceed it wait; a process that has exceeded it is replaced between jobs, unless the one before needed as much. Unset: no limit.',
    ),
  METRICS_PORT: z.coerce
    .number()
    .int()
    .min(1)
    .max(65_535)
    .optional()
    .describe('TCP port for GET /livez, /readyz and /metrics of this worker. Unset: none.'),
  METRICS_HOST: z.string().min(1).optional().describe('Address on which METRICS_PORT is opened. Unset: all addresses of the machine.'),
  CACHE_DIR: z.string().min(1).optional().describe('Folder for measurements that outlive the process. Unset: none are kept.'),
  ...processVariables,
  ...storageVariables,
}

const workerConfigSchema = z
  .object(workerVariables)
  .superRefine(checkRedisVariables, { when: () => true })
  .superRefine(checkStorageVariables, { when: () => true })
  .transform((variables) => ({
    ...toProcessConfig(variables),
    redis: toRedisLocation(variables),
    queuePrefix: variables.QUEUE_PREFIX,
    allowEvictingRedis: variables.ALLOW_EVICTING_REDIS,
    model: variables.MODEL ?? variables.MODEL_PATH ?? defaultModel,
    modelsDir: variables.MODELS_DIR,
    modelParts: variables.MODEL_PARTS,
    lorasDir: variables.LORAS_DIR,
    autoPull: variables.AUTO_PULL,
    /** The variables that a pull reads. */
    hub: {
      HF_TOKEN: variables.HF_TOKEN,
      HF_ENDPOINT: variables.HF_ENDPOINT,
      HTTPS_PROXY: variables.HTTPS_PROXY,
      NO_PROXY: variables.NO_PROXY,
    },
    weights: variables.WEIGHTS,
    textEncoder3: variables.TEXT_ENCODER_3,
    device: variables.DEVICE,
    gpu: variables.CUDA_VISIBLE_DEVICES?.split(',')[0]?.trim(),
    concurrency: variables.WORKER_CONCURRENCY,
    maxRunningJobsPerKey: variables.MAX_RUNNING_JOBS_PER_KEY,
    maxBatchRows: variables.MAX_BATCH_ROWS,
    batchPolicy: variables.BATCH_POLICY,
    maxPixels: variables.MAX_PIXELS,
    pngCompressionLevel: variables.PNG_COMPRESSION_LEVEL,
    imageMetadata: variables.IMAGE_METADATA,
    jobLockDurationMs: variables.JOB_LOCK_DURATION * 1000,
    engineStepTimeoutMs: variables.ENGINE_STEP_TIMEOUT * 1000,
    engineLoadTimeoutMs: variables.ENGINE_LOAD_TIMEOUT * 1000,
    engineMemoryLimitBytes: variables.ENGINE_MEMORY_LIMIT === undefined ? undefined : variables.ENGINE_MEMORY_LIMIT * 2 ** 20,
    metricsHost: variables.METRICS_HOST,
    metricsPort: variables.METRICS_PORT,
    cacheDir: variables.CACHE_DIR,
    storage: toStorageOptions(variables),
  }))

export type WorkerConfig = z.output<typeof workerConfigSchema>

/** Throws a `ConfigError` that names every wrong variable. Default: this process's environment. */
export function readConfig(env?: Environment): WorkerConfig {
  return readVariables(workerConfigSchema, env)
}
