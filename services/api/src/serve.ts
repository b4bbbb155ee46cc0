/**
 * Owns a running api: connections, app, HTTP server, and their clean shutdown. It starts even while Redis is down and recovers by itself: every
 * connection retries without limit, and until then requests get 503. Runs in the api process, and in tests.
 */
import { once } from 'node:events'
import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { Http2Bindings, HttpBindings } from '@hono/node-server'
import type { Logger } from 'pino'
import {
  createJobLines,
  createInputStore,
  JobQueues,
  createJobStore,
  createModelRegistry,
  createRedis,
  createUsage,
  createWebhookOutbox,
  followRedisClock,
  refuseFaultyRedis,
} from '@easel/job-store'
import { createStorage } from '@easel/storage'
import type { StorageOptions } from '@easel/storage'
import { listen, noTracing, OutageLog, tellClock } from '@easel/process'
import type { Tracing } from '@easel/process'
import { ApiKeyRing } from './api-key-ring.ts'
import { createApp } from './app.ts'
import type { AppDeps } from './app-deps.ts'
import type { ApiConfig } from './config.ts'
import { unwrapProxied } from './dialects/fal/unwrap-proxied.ts'
import { JobFollower } from './events/job-follower.ts'
import { startAdopting } from './jobs/adopt-jobs.ts'
import { QueueEstimator } from './jobs/queue-estimator.ts'
import { logTotals } from './log-totals.ts'
import { createApiMetrics } from './metrics/api-metrics.ts'
import { startMaintenance } from './maintenance/start-maintenance.ts'
import { createSecretReader } from './webhooks/secret-reader.ts'
import { startDelivery } from './webhooks/start-delivery.ts'
import type { DeliveryOptions } from './webhooks/start-delivery.ts'

export interface ServeOptions {
  config: ApiConfig
  logger: Logger
  /** The clock that all processes share, ms since the epoch. Default: that of Redis. */
  now?: () => number
  /** The clock of this process, ms since the epoch. Default: that of its machine. */
  localNow?: () => number
  /** How webhooks are sent. Defaults as in `DeliveryOptions`. */
  delivery?: Omit<DeliveryOptions, 'connection'>
  /** Where spans are sent; the caller closes it. Default: nowhere. */
  tracing?: Tracing
}

export interface RunningApi {
  /** The TCP port on which it listens. */
  readonly port: number
  readonly deps: AppDeps
  /**
   * Takes no more requests, lets those under way end within SHUTDOWN_GRACE, then makes those that still wait for a job answer without it, and
   * releases everything.
   */
  close(): Promise<void>
}

/** How many milliseconds answers that are still being sent when the grace is over may take before their connections are cut. */
const lastAnswersMs = 2000
/** The time between checks for idle connections while the server stops, in milliseconds. */
const idleLookMs = 50

export async function serveApi(options: ServeOptions): Promise<RunningApi> {
  const { config, logger, delivery: deliveryOptions, tracing = noTracing } = options
  const stopping = new AbortController()
  const graceOver = new AbortController()
  const server = createAdaptorServer({
    fetch: (request, env) => (namesTwoHosts(env) ? new Response(null, { status: 400 }) : app.fetch(unwrapProxied(request), env)),
    // Allows HTTP/1.0 requests without a Host header, which health checks of load balancers send.
    hostname: 'localhost',
  }) as Server
  server.keepAliveTimeout = config.keepAliveTimeoutMs
  // The timeout for the next request's headers must not be shorter than that of the idle connection.
  server.headersTimeout = server.keepAliveTimeout + 1000
  server.requestTimeout = Math.max(server.requestTimeout, server.headersTimeout)
  const apiKeys = new ApiKeyRing(config.apiKeys, config.apiKeysFile)
  // Before any connection is opened, so that an unavailable address is the only thing reported.
  const port = await listen(server, { host: config.host, port: config.port, variables: { host: 'HOST', port: 'PORT' } })
  const deps = { ...openDeps(options, apiKeys, tracing), stopping: stopping.signal, graceOver: graceOver.signal }
  const app = createApp(deps)
  try {
    await refuseFaultyRedis(deps.redis, { allowEvicting: config.allowEvictingRedis })
  } catch (error) {
    server.close()
    server.closeAllConnections()
    await closeDeps(deps)
    throw error
  }
  if (apiKeys.keys.length === 0) logger.warn('no API_KEYS set: everyone who reaches this server may use it')
  const stopTotals = logTotals(deps)
  const background = createRedis({ ...config.redis, use: 'worker', onError: () => {} })
  deps.outage.watch(background)
  const delivery = startDelivery(deps, { ...deliveryOptions, connection: background })
  const maintenance = startMaintenance(deps, { connection: background })
  const stopAdopting = startAdopting(deps, background)

  return {
    port,
    deps,
    async close() {
      stopTotals()
      stopAdopting()
      const closed = once(server, 'close')
      server.close()
      stopping.abort()
      // A kept-alive connection becomes idle after its answer, and nothing else would end it.
      const idleTimer = setInterval(() => server.closeIdleConnections(), idleLookMs)
      let timer = setTimeout(() => {
        graceOver.abort()
        // Begun only now, so that the last answers have this time even if the process was held up until after the grace.
        timer = setTimeout(() => server.closeAllConnections(), lastAnswersMs)
      }, config.shutdownGraceMs)
      await Promise.all([closed, delivery.close(), maintenance.close()])
      clearInterval(idleTimer)
      clearTimeout(timer)
      background.disconnect()
      await closeDeps(deps)
    },
  }
}

/** RFC 9112, 3.2, requires such a request to be refused: Node.js would use the first Host, and a proxy in front of it may have used the other. */
function namesTwoHosts({ incoming }: HttpBindings | Http2Bindings): boolean {
  return incoming.rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === 'host').length > 1
}

function openDeps(options: ServeOptions, apiKeys: ApiKeyRing, tracing: Tracing): Omit<AppDeps, 'stopping' | 'graceOver'> {
  const { config, logger, localNow } = options
  const outage = new OutageLog('Redis', logger)
  const onError = (error: Error): void => outage.report(error, 'queue')
  const { queuePrefix: prefix } = config
  const redis = createRedis({ ...config.redis, use: 'request', onError: () => {} })
  const subscriber = createRedis({ ...config.redis, use: 'worker', onError: () => {} })
  for (const connection of [redis, subscriber]) outage.watch(connection)
  const { now = followRedisClock({ redis, prefix, localNow, ...tellClock(logger) }) } = options
  const metrics = createApiMetrics()
  const store = createJobStore({ redis, prefix, now, onEnd: metrics.countEnd })
  const registry = createModelRegistry({ redis, prefix, now })
  return {
    config,
    apiKeys,
    redis,
    subscriber,
    store,
    registry,
    usage: createUsage({ redis, prefix, now }),
    estimator: new QueueEstimator({ lines: createJobLines({ redis, prefix }), registry, store, now }),
    queues: new JobQueues({ redis, prefix, onError, telemetry: tracing.telemetry }),
    outbox: createWebhookOutbox({ redis, prefix, onError, telemetry: tracing.telemetry }),
    readSecrets: createSecretReader({ apiKeys, config, logger, redis, store }),
    inputs: createInputStore({ redis, prefix, removalMs: removalMsOf(config.storage), now }),
    storage: createStorage(config.storage),
    follower: new JobFollower({ store, subscriber, onError: (error, about) => outage.report(error, 'job follower', about) }),
    outage,
    logger,
    metrics,
    tracing,
    now,
  }
}

/** How long a picture may take to be deleted, in ms: a request to S3 is tried twice. */
function removalMsOf(storage: StorageOptions): number {
  return 60_000 + (storage.kind === 's3' ? 2 * (storage.requestTimeoutMs ?? 0) : 0)
}

async function closeDeps({ follower, outbox, queues, redis, storage, subscriber }: AppDeps): Promise<void> {
  await follower.close()
  await queues.close()
  await outbox.close()
  redis.disconnect()
  subscriber.disconnect()
  await storage.close()
}
