/**
 * One worker: connects Redis, store, engine and queue, and shuts them down again in the right order.
 *
 * Invariant: jobs are taken only while the engine has a model and the store can be written to. After `close` no process, connection or timer
 * is left. `close` ends within its grace and a few seconds, even if Redis or the store cannot be reached. Runs in the worker's main process.
 */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Provenance } from '@easel/contract'
import { collectDefaultMetrics } from 'prom-client'
import {
  createJobStore,
  createModelRegistry,
  createRedis,
  createWebhookOutbox,
  followRedisClock,
  refuseFaultyRedis,
} from '@easel/job-store'
import type { JobStore, RedisConnection } from '@easel/job-store'
import { noTracing, OutageLog, settle, tellClock } from '@easel/process'
import type { Tracing } from '@easel/process'
import { createStorage, StorageError } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { ActiveJobs } from './queue/active-jobs.ts'
import { Cleanups } from './cleanups.ts'
import type { WorkerConfig } from './config.ts'
import { startEngine } from './engine/engine-supervisor.ts'
import type { EngineEvent, EngineSupervisor } from './engine/engine-supervisor.ts'
import { ensureModel } from './ensure-model.ts'
import type { PullProgress } from './ensure-model.ts'
import { listenForCancels } from './queue/listen-for-cancels.ts'
import { listenForJobs } from './queue/listen-for-jobs.ts'
import { logEngineEvent } from './log-engine-event.ts'
import { openCacheDir } from './open-cache-dir.ts'
import { createPresence } from './status/presence.ts'
import { createProcessJob } from './jobs/process-job.ts'
import { createQueueWorker } from './queue/queue-worker.ts'
import type { QueueWorker } from './queue/queue-worker.ts'
import { startStatusServer } from './status/status-server.ts'
import type { LoadProgress, StatusServerOptions } from './status/status-server.ts'
import { toProvenance } from './pictures/to-provenance.ts'
import { WorkerMetrics } from './status/worker-metrics.ts'

export interface WorkerService {
  readonly id: string
  /** The process id of the running engine process. */
  readonly enginePid: number | undefined
  /** Whether it can take jobs, because the engine has its model and the connection that waits for jobs is up. */
  isReady(): boolean
  /** Takes no more jobs, waits for running ones within the grace, hands over the rest, and ends. */
  close(graceMs?: number): Promise<void>
}

export interface WorkerServiceOptions {
  config: WorkerConfig
  logger: Logger
  /** The module of the engine process. Default: the real one. */
  engineEntry?: string
  /** How long uploads are retried, in ms. Default 120 000. */
  uploadRetryMs?: number
  /** Where spans are sent; the caller closes it. Default: nowhere. */
  tracing?: Tracing
  /** The clock that all processes share, ms since the epoch. Default: that of Redis. */
  now?: () => number
  /** The clock of this process, ms since the epoch. Default: that of its machine. */
  localNow?: () => number
}

const storageRetryMs = 2000
/** How long the engine may take to provide checkpoints, enough for a step or two. After that its jobs go back without them. */
const handOverLimitMs = 2500
/** How long jobs may take to return to the queue when their engine is gone, and how long each part may take to release Redis. */
const lettingGoMs = 300

export async function startWorkerService(options: WorkerServiceOptions): Promise<WorkerService> {
  const cleanups = new Cleanups()
  try {
    return await assemble(options, cleanups)
  } catch (error) {
    await cleanups.run()
    throw error
  }
}

// oxlint-disable-next-line max-lines-per-function -- one sequence, its phases numbered.
async function assemble(options: WorkerServiceOptions, cleanups: Cleanups): Promise<WorkerService> {
  const { config, logger, uploadRetryMs = 120_000, tracing = noTracing, localNow } = options
  const { queuePrefix: prefix } = config
  const id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`

  // 1. Status and metrics, before anything that may take long or fail, so that a worker that does not get that far can be seen
  const metrics = new WorkerMetrics()
  let answersReady = (): boolean => false
  let pull: PullProgress | undefined
  let loading: LoadProgress | undefined
  const status = { isReady: () => answersReady(), pulling: () => pull, loading: () => loading }
  await openStatusServer(config, metrics, status, cleanups)

  // 2. Redis
  const outage = new OutageLog('Redis', logger)
  const connect = (): RedisConnection => {
    const redis = createRedis({ ...config.redis, use: 'worker', onError: () => {} })
    outage.watch(redis)
    cleanups.add(() => redis.disconnect())
    return redis
  }
  const redis = connect()
  const { now = followRedisClock({ redis, prefix, localNow, ...tellClock(logger) }) } = options
  await refuseFaultyRedis(redis, { allowEvicting: config.allowEvictingRedis })

  // 3. Engine and store
  const storage = createStorage(config.storage)
  cleanups.add(() => storage.close())
  await untilWritable(storage, logger)
  const active = new ActiveJobs()
  await ensureModel({ config, logger, onProgress: (progress) => (pull = progress) })
  pull = undefined
  loading = { silentMs: 0 }
  const onEvent = (event: EngineEvent): void => {
    logEngineEvent(logger, event, active)
    if (event.type === 'ready') loading = undefined
    if (event.type === 'died' || event.type === 'recycled') loading = { ...loading, silentMs: 0 }
    if (event.type === 'silent_load') loading = { ...loading, silentMs: event.silentMs }
    if (event.type === 'load_failed') loading = { silentMs: 0, lastFailure: event.message }
  }
  const engine = await openEngine(options, { onEvent, metrics }, cleanups)

  // 4. Queue
  const subscriber = connect()
  const onError = (error: Error): void => outage.report(error, 'queue')
  const store = createJobStore({ redis, prefix, now, onEnd: (status, code) => metrics.countEnd(status, code) })
  const outbox = createWebhookOutbox({ redis, prefix, onError, telemetry: tracing.telemetry })
  cleanups.add(() => settle(outbox.close(), lettingGoMs))
  let made: Provenance | undefined
  const provenance = async (signal: AbortSignal): Promise<Provenance> => {
    const contentHash = await engine.contentHash(signal)
    if (made?.model.content_hash !== contentHash) made = toProvenance(engine.capabilities, contentHash, config)
    return made
  }
  const { logPrompts } = config
  const onRecord = active.learn.bind(active)
  const about = { logger, metrics, tracing, workerId: id, provenance, logPrompts, uploadRetryMs, onRecord, now }
  const queue = createQueueWorker({
    redis,
    prefix,
    modelId: engine.capabilities.modelId,
    concurrency: config.concurrency,
    maxRunningOfOwner: config.maxRunningJobsPerKey,
    lockDurationMs: config.jobLockDurationMs,
    processJob: createProcessJob({ store, outbox, engine, storage, ...about }),
    active,
    store,
    metrics,
    telemetry: tracing.telemetry,
    onError,
    logger,
  })
  const onCancel = (jobId: string): void => queue.stopJob(jobId, 'canceled')
  await listenForCancels({ subscriber, prefix, store, active, onCancel, onError })
  await listenForJobs({ subscriber, prefix, modelId: engine.capabilities.modelId, onJob: (owner) => queue.bull.wake(owner) })

  // 5. Start work and announce it
  const isReady = (): boolean => redis.status === 'ready' && engine.hasModel && queue.bull.isRunning()
  const presence = createPresence({
    registry: createModelRegistry({ redis, prefix, now }),
    engine,
    workerId: id,
    concurrency: config.concurrency,
    maxPixels: config.maxPixels,
    gpu: config.gpu,
    onStats: (stats) => metrics.takeStats(stats),
    active: () => active.count,
    isReady,
    logger,
    now,
  })
  queue.bull.run().catch((error: unknown) => logger.error({ err: error }, 'queue'))
  cleanups.add(() => settle(presence.close(), lettingGoMs))
  await presence.begin()
  // Anyone who waits for it to be ready will find it in the list of workers.
  answersReady = isReady
  // Repeated after every reconnect, because Redis may have come back empty.
  redis.on('ready', presence.announce)
  logTotals({ config, logger, store, active, engine, onError }, cleanups)
  logger.info({ worker: id, concurrency: config.concurrency }, 'ready')

  let closing: Promise<void> | undefined
  return {
    id,
    get enginePid() {
      return engine.pid
    },
    isReady,
    async close(graceMs = config.shutdownGraceMs) {
      closing ??= drain(queue, active, engine, graceMs).then(() => cleanups.run())
      await closing
    },
  }
}

/** Ends the running jobs, and then the queue's worker. */
async function drain(queue: QueueWorker, active: ActiveJobs, engine: EngineSupervisor, graceMs: number): Promise<void> {
  // Takes no more jobs and waits for the running ones.
  const idle = queue.bull.pause().catch(() => {})
  if (!(await settle(idle, graceMs))) {
    for (const jobId of active.ids) queue.stopJob(jobId, 'hand_over')
    if (!(await settle(idle, handOverLimitMs))) {
      await engine.close()
      await settle(idle, lettingGoMs)
    }
  }
  // BullMQ would wait for a Redis that is down.
  await queue.bull.close(true)
}

async function openStatusServer(
  { metricsHost: host, metricsPort: port }: WorkerConfig,
  { registry }: WorkerMetrics,
  readiness: Pick<StatusServerOptions, 'isReady' | 'pulling' | 'loading'>,
  cleanups: Cleanups,
): Promise<void> {
  if (port === undefined) return
  // Only started on request, because its timer fires a hundred times a second.
  collectDefaultMetrics({ register: registry })
  const server = await startStatusServer({ host, port, ...readiness, metrics: registry })
  cleanups.add(() => server.close())
}

async function openEngine(
  { config, logger, engineEntry }: WorkerServiceOptions,
  { onEvent, metrics }: { onEvent: (event: EngineEvent) => void; metrics: WorkerMetrics },
  cleanups: Cleanups,
): Promise<EngineSupervisor> {
  logger.info({ model: config.model, device: config.device }, 'loading the model')
  const cache = await openCacheDir(config.cacheDir, logger)
  cleanups.add(cache.remove)
  const engine = await startEngine({
    model: config.model,
    modelsDir: config.modelsDir,
    modelParts: config.modelParts,
    lorasDir: config.lorasDir,
    weights: config.weights,
    textEncoder3: config.textEncoder3,
    device: config.device,
    maxBatchRows: config.maxBatchRows,
    batchPolicy: config.batchPolicy,
    memoryLimitBytes: config.engineMemoryLimitBytes,
    cacheDir: cache.dir,
    entry: engineEntry,
    stepTimeoutMs: config.engineStepTimeoutMs,
    loadTimeoutMs: config.engineLoadTimeoutMs,
    onEvent,
    onStep: (step) => metrics.observeStep(step),
  })
  cleanups.add(() => engine.close())
  metrics.follow(engine)
  return engine
}

/** Waits for a store that is down, which may come up later; one that refuses access will not change. */
async function untilWritable(storage: Storage, logger: Logger): Promise<void> {
  for (;;) {
    try {
      return await storage.check()
    } catch (error) {
      if (!(error instanceof StorageError) || !error.retryable) throw error
      logger.warn({ err: error, retryMs: storageRetryMs }, 'the store cannot be written yet')
      await sleep(storageRetryMs)
    }
  }
}

interface Totals extends Pick<WorkerServiceOptions, 'config' | 'logger'> {
  store: JobStore
  active: ActiveJobs
  engine: EngineSupervisor
  onError: (error: Error) => void
}

function logTotals({ config, logger, store, active, engine, onError }: Totals, cleanups: Cleanups): void {
  if (config.metricsLogIntervalMs === 0) return
  const write = async (): Promise<void> => {
    const [{ created = 0 }, queued] = await Promise.all([store.counters(), store.count('', 'queued')])
    logger.info({ totalRequests: created, activeInferences: active.count, queueDepth: queued, engineRestarts: engine.restarts }, 'totals')
  }
  const timer = setInterval(() => void write().catch(onError), config.metricsLogIntervalMs)
  cleanups.add(() => clearInterval(timer))
}
