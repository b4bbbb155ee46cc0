/**
 * Owns the environment variables of the api: their names, meaning, ranges and defaults. Only this file of the service reads an environment,
 * and not on import. Documentation and `.env.example` are generated from the descriptions.
 */
import { z } from 'zod'
import { defaultModel, maxImagesPerPrompt, maxInferenceSteps, toModelId } from '@easel/contract'
import { checkRedisVariables, redisVariables, toRedisLocation } from '@easel/job-store'
import { processVariables, readVariables, toProcessConfig } from '@easel/process'
import type { Environment } from '@easel/process'
import { checkStorageVariables, storageVariables, toStorageOptions } from '@easel/storage'
import { checkAllApiKeys, readApiKeysFile } from './api-key-ring.ts'
import { parseApiKeys } from './parse-api-keys.ts'
import { parseCorsOrigins } from './parse-cors-origins.ts'
import { parseModelAliases } from './parse-model-aliases.ts'
import { parseRateLimit } from './parse-rate-limit.ts'
import { defaultRetryDelays } from './webhooks/retry-delay.ts'
import { isWebhookSecret } from './webhooks/webhook-secret.ts'

const count = z.coerce.number().int().min(0)
const seconds = z.coerce.number().int().min(0)
/** A variable with its own notation; the operator sees the message that `parse` throws. */
function parsedBy<T>(parse: (text: string) => T, text: z.ZodDefault<z.ZodString> | z.ZodString = z.string()) {
  return text.transform((text, context) => {
    try {
      return parse(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message })
      return z.NEVER
    }
  })
}
const httpUrl = z.url({ protocol: /^https?$/, error: 'Expected an http:// or https:// URL' })

export const apiVariables = {
  HOST: z
    .string()
    .min(1)
    .default('0.0.0.0')
    .describe(
      'Address on which the api listens. `npm start` and `easel api` listen on 127.0.0.1 unless this, API_KEYS or API_KEYS_FILE is set.',
    ),
  PORT: z.coerce.number().int().min(1).max(65_535).default(8500).describe('TCP port on which the api listens, 1 to 65535.'),
  PUBLIC_URL: httpUrl
    .optional()
    .describe(
      'URL at which clients reach the api; image URLs begin with it. Unset: they begin with the origin that the request used (behind TRUSTED_PROXIES, the one that the proxy received).',
    ),
  ...redisVariables,
  MODEL: z
    .string()
    .min(1)
    .optional()
    .describe(`Model of requests that name none: a preset, a folder, or a name under MODELS_DIR. Default: ${defaultModel}.`),
  MODEL_PATH: z.string().min(1).optional().describe('Another name for MODEL.'),
  MODEL_ALIASES: parsedBy(parseModelAliases)
    .default(new Map<string, string>())
    .describe(
      'Other names that requests may use for models, `alias=model` separated by commas, such as dall-e-3=tiny-scenes. If only one model is served, the names that clients of OpenAI, Replicate and fal usually send mean that model without being listed here.',
    ),
  MAX_PROMPT_LENGTH: count
    .min(1)
    .max(100_000)
    .default(4000)
    .describe('Most characters of each prompt, 1 to 100000; all prompts of a request together may have twice as many.'),
  MAX_BODY_BYTES: count.min(1024).default(1_048_576).describe('Largest body of a request, in bytes, from 1024.'),
  MAX_INPUT_BYTES: count.min(1024).default(20_971_520).describe('Largest file of an input picture, in bytes, from 1024.'),
  MAX_INPUT_PIXELS: count
    .min(256)
    .default(50_000_000)
    .describe('Most pixels of an input picture, width × height according to its header, from 256.'),
  INPUT_ALLOW_INSECURE: z
    .stringbool()
    .default(false)
    .describe('Let input pictures be fetched from http:// URLs and private addresses. For development only.'),
  RESULT_TTL: seconds.default(86_400).describe('Seconds that a job and its images are kept after its end; 0 = for ever.'),
  WEBHOOK_SECRETS: z
    .string()
    .optional()
    .transform((text) => (text ?? '').split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()])))
    .refine((secrets) => secrets.every(isWebhookSecret), 'Expected `whsec_` and base64 of 24 to 64 bytes, separated by commas')
    .describe('Signing secrets of webhooks, `whsec_…`, separated by commas; all of them sign. Unset: one is generated and kept in Redis.'),
  WEBHOOK_ALLOW_INSECURE: z
    .stringbool()
    .default(false)
    .describe('Let webhooks go to http:// URLs and private addresses. For development only.'),
  WEBHOOK_RETRY_DELAYS: z
    .string()
    .default(defaultRetryDelays)
    .transform((text) => text.split(',').map((part) => Number(part.trim())))
    .refine((delays) => delays.every((delay) => Number.isFinite(delay) && delay >= 0), 'Expected seconds separated by commas')
    .describe(
      'Seconds before each attempt to deliver a webhook, the first included, separated by commas. After the last one the message is given up.',
    ),
  API_KEYS: parsedBy(parseApiKeys)
    .default([])
    .describe(
      'Keys that requests must carry, `key`, `name:key` or `name*weight:key`, separated by commas; 8 to 256 characters each. Keys with the same name share their jobs. Unset, and no API_KEYS_FILE: no key is needed.',
    ),
  API_KEYS_FILE: parsedBy(readApiKeysFile, z.string().min(1))
    .optional()
    .describe('File with further keys in the form of API_KEYS, one per line or separated by commas. Read at start and again at SIGHUP.'),
  ADMIN_KEY: z
    .string()
    .regex(/^[\x21-\x7e]{16,256}$/, 'Expected 16 to 256 visible ASCII characters')
    .optional()
    .describe(
      'Key of the operator for /admin, the status page, and /admin/queues: the password with any user name, or a Bearer token. Unset: there are no such pages.',
    ),
  RATE_LIMIT: parsedBy(parseRateLimit)
    .optional()
    .describe(
      'Requests that one key, or without keys one client address, may make: COUNT/PERIOD such as 60/min, 5/s, 1000/h. Unset: no limit.',
    ),
  TRUSTED_PROXIES: count
    .max(10)
    .default(0)
    .describe(
      'Number of proxies in front of the api that each add to X-Forwarded-For, or to Forwarded, 0 to 10; 0 = such headers are not trusted.',
    ),
  MAX_QUEUED_JOBS: count.default(10_000).describe('Most jobs that may wait; 0 = no limit.'),
  MAX_QUEUED_JOBS_PER_KEY: count.default(0).describe('Most jobs of one API key that may wait; 0 = no limit.'),
  MAX_QUEUED_GPU_SECONDS_PER_KEY: count
    .default(0)
    .describe('Most work of one API key that may wait, in estimated seconds of the device; 0 = no limit. A first job is always accepted.'),
  MAX_STEPS: count.min(1).max(maxInferenceSteps).default(maxInferenceSteps).describe('Most steps of a job, 1 to 200.'),
  MAX_IMAGES_PER_JOB: count.min(1).max(maxImagesPerPrompt).default(maxImagesPerPrompt).describe('Most pictures of a job, 1 to 10.'),
  DEFAULT_TIMEOUT: seconds.max(86_400).default(0).describe('Seconds that a job may run if its request does not say; 0 = no limit.'),
  CORS_ORIGINS: parsedBy(parseCorsOrigins, z.string().default('*')).describe(
    'Origins whose pages may call the api, such as https://app.example.com, separated by commas; * = all.',
  ),
  PREFER_WAIT_MAX: seconds
    .max(3600)
    .default(60)
    .describe('Longest wait of a request with `Prefer: wait`, in seconds, 0 to 3600; proxies in front must wait longer.'),
  INFERENCE_WAIT: seconds
    .min(1)
    .max(3600)
    .default(480)
    .describe('Longest wait of requests that are answered with the pictures (diffusers, OpenAI, fal.run), in seconds.'),
  KEEP_ALIVE_TIMEOUT: seconds
    .min(1)
    .max(3600)
    .default(75)
    .describe(
      'Seconds that an idle connection of a client stays open, 1 to 3600; must be longer than load balancers in front keep theirs.',
    ),
  ...processVariables,
  ...storageVariables,
}

const apiConfigSchema = z
  .object(apiVariables)
  .superRefine(checkRedisVariables, { when: () => true })
  .superRefine(checkStorageVariables, { when: () => true })
  .superRefine(checkAllApiKeys, { when: () => true })
  .transform((variables) => ({
    ...toProcessConfig(variables),
    host: variables.HOST,
    port: variables.PORT,
    /** Whether clients reach the api only under `publicUrl`. */
    isPublicUrlSet: variables.PUBLIC_URL !== undefined,
    publicUrl: (variables.PUBLIC_URL ?? `http://localhost:${variables.PORT}`).replace(/\/+$/, ''),
    redis: toRedisLocation(variables),
    queuePrefix: variables.QUEUE_PREFIX,
    allowEvictingRedis: variables.ALLOW_EVICTING_REDIS,
    storage: toStorageOptions(variables),
    /** The id of the model that a request gets when it names none. */
    defaultModel: toModelId(variables.MODEL ?? variables.MODEL_PATH ?? defaultModel),
    modelAliases: variables.MODEL_ALIASES,
    maxPromptLength: variables.MAX_PROMPT_LENGTH,
    maxBodyBytes: variables.MAX_BODY_BYTES,
    maxInputBytes: variables.MAX_INPUT_BYTES,
    maxInputPixels: variables.MAX_INPUT_PIXELS,
    inputAllowInsecure: variables.INPUT_ALLOW_INSECURE,
    resultTtlSeconds: variables.RESULT_TTL,
    webhookSecrets: variables.WEBHOOK_SECRETS,
    webhookAllowInsecure: variables.WEBHOOK_ALLOW_INSECURE,
    webhookRetryDelaysSeconds: variables.WEBHOOK_RETRY_DELAYS,
    apiKeys: variables.API_KEYS,
    apiKeysFile: variables.API_KEYS_FILE,
    adminKey: variables.ADMIN_KEY,
    rateLimit: variables.RATE_LIMIT,
    trustedProxies: variables.TRUSTED_PROXIES,
    maxQueuedJobs: variables.MAX_QUEUED_JOBS,
    maxQueuedJobsPerKey: variables.MAX_QUEUED_JOBS_PER_KEY,
    maxQueuedMsPerKey: variables.MAX_QUEUED_GPU_SECONDS_PER_KEY * 1000,
    maxSteps: variables.MAX_STEPS,
    maxImagesPerJob: variables.MAX_IMAGES_PER_JOB,
    defaultTimeoutSeconds: variables.DEFAULT_TIMEOUT === 0 ? undefined : variables.DEFAULT_TIMEOUT,
    corsOrigins: variables.CORS_ORIGINS,
    keepAliveTimeoutMs: variables.KEEP_ALIVE_TIMEOUT * 1000,
    preferWaitMaxSeconds: variables.PREFER_WAIT_MAX,
    inferenceWaitSeconds: variables.INFERENCE_WAIT,
  }))

export type ApiConfig = z.output<typeof apiConfigSchema>

/** Throws a `ConfigError` that names every wrong variable. Default: this process's environment. */
export function readConfig(env?: Environment): ApiConfig {
  return readVariables(apiConfigSchema, env)
}
