/**
 * What every part of the api receives: the connections and stores of the process, and what a request carries through its handlers. Types
 * only; imports nothing that uses them.
 */
import type { HttpBindings } from '@hono/node-server'
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Logger } from 'pino'
import type { InputStore, JobQueues, JobStore, ModelRegistry, RedisConnection, Usage, WebhookOutbox } from '@easel/job-store'
import type { Storage } from '@easel/storage'
import type { OutageLog, Tracing } from '@easel/process'
import type { ApiKeyRing } from './api-key-ring.ts'
import type { ApiConfig } from './config.ts'
import type { QueueEstimator } from './jobs/queue-estimator.ts'
import type { JobFollower } from './events/job-follower.ts'
import type { ApiMetrics } from './metrics/api-metrics.ts'
import type { SecretReader } from './webhooks/secret-reader.ts'

/** Everything the routes need from outside; opened and closed by the caller of `createApp`. */
export interface AppDeps {
  config: ApiConfig
  apiKeys: ApiKeyRing
  /** The connection whose commands fail fast while Redis is away. */
  redis: RedisConnection
  /** The connection for pub/sub only; it waits for Redis. */
  subscriber: RedisConnection
  store: JobStore
  registry: ModelRegistry
  /** Which jobs and uploads hold which input picture. */
  inputs: InputStore
  queues: JobQueues
  estimator: QueueEstimator
  usage: Usage
  /** The webhook messages that wait to be sent. */
  outbox: WebhookOutbox
  /** The secrets with which an owner's webhook messages are signed. */
  readSecrets: SecretReader
  storage: Storage
  follower: JobFollower
  /** Receives errors that an outage of Redis may have caused. */
  outage: OutageLog
  logger: Logger
  metrics: ApiMetrics
  tracing: Tracing
  /** The clock, in ms since the epoch. */
  now: () => number
  /** Aborts when the api takes no more requests; those under way continue. */
  stopping: AbortSignal
  /** Aborts when the grace of a shutdown is over: a request that still waits for the end of a job answers without it. */
  graceOver: AbortSignal
}

export interface AppEnv {
  Bindings: HttpBindings
  Variables: {
    requestId: string
    /** Whose jobs the request may see: the owner of its API key, or `public`. */
    owner: string
    /** The logger that carries the request id. */
    logger: Logger
  }
}

export type Api = OpenAPIHono<AppEnv>
