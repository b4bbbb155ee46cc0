/**
 * One worker: connects Redis, store, engine and queue, and takes them apart again in the right order.
 *
 * Invariant: jobs are taken only while the engine has a model and the store can be written; after `close` nothing of it is left: no process,
 * connection or timer. Runs in the worker's main process.
 */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { UnrecoverableError, Worker } from 'bullmq'
import type { Logger } from 'pino'
import { collectDefaultMetrics } from 'prom-client'
import { createKeys, generateQueueName } from '@easel/contract'
import {
  createJobStore,
  createModelRegistry,
  createRedis,
  createWebhookOutbox,
  findRequestId,
  refuseFaultyRedis,
  watchEnds,
} from '@easel/job-store'
import type { GenerateJobData } from '@easel/job-store'
import { createStorage, StorageError } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { noTracing } from '@easel/process'
import type { Tracing } from '@easel/process'
import type { WorkerConfig } from './config.ts'
import { startEngine } from './engine/engine-supervisor.ts'
import type { EngineEvent } from './engine/engine-supervisor.ts'
import { createPresence } from './presence.ts'
import { startStatusServer } from './status-server.ts'
import { createProcessJob } from './process-job.ts'
import type { StopReason } from './process-job.ts'
import { createWorkerMetrics } from './worker-metrics.ts'
import { toProvenance } from './to-provenance.ts'

export interface WorkerService {
  readonly id: string
  /** Of the engine process that runs now. */
  readonly enginePid: number | undefined
  /** Whether it can take jobs: the engine has its model, and the connection that waits for jobs is up. */
  isReady(): boolean
  /** Takes no more jobs, waits the grace for running ones, hands over what is left, and ends. */
  close(graceMs?: number): Promise<void>
}

export interface WorkerServiceOptions {
  config: WorkerConfig
  logger: Logger
  /** Module of the engine process. Default: the real one. */
  engineEntry?: string
  /** How long uploads are tried again, in ms. Default: 120 000. */
  uploadRetryMs?: number
  /** Where spans go; its owner ends it. Default: nowhere. */
  tracing?: Tracing
  now?: () => number
}

/** A job may be found stalled again and again without being to blame; strikes are counted elsewhere. */
const maxStalledCount = 1000
const storageRetryMs = 2000
/** How long the engine may take to hand out checkpoints: a step or two. */
const handOverLimitMs = 10_000

export async function startWorkerService(options: WorkerServiceOptions): Promise<WorkerService> {
  const { config, logger, engineEntry, uploadRetryMs = 120_000, tracing = noTracing, now = Date.now } = options
  const { queuePrefix: prefix } = config
  const id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`
  const cleanups: (() => unknown)[] = []
  const cleanUp = async (): Promise<void> => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
  }
  try {
    const onError = (error: Error): void => logger.warn({ err: error }, 'redis connection')
    const connect = (): ReturnType<typeof createRedis> => {
      const redis = createRedis({ ...config.redis, use: 'worker', onError })
      cleanups.push(() => redis.disconnect())
      return redis
    }
    const metrics = createWorkerMetrics()
    let answersReady = (): boolean => false
    // Before anything that may take long or fail, so that a worker that does not get that far is seen.
    if (config.metricsPort !== undefined) {
      // Of the process: a timer that fires a hundred times a second is nothing for a process that nobody looks at.
      collectDefaultMetrics({ register: metrics.registry })
      const { metricsHost: host, metricsPort: port } = config
      const server = await startStatusServer({ host, port, isReady: () => answersReady(), metrics: metrics.registry })
      cleanups.push(() => server.close())
    }
    const redis = connect()
    await refuseFaultyRedis(redis, { allowEvicting: config.allowEvictingRedis })
    const storage = createStorage(config.storage)
    cleanups.push(() => storage.close())
    await untilWritable(storage, logger)

    logger.info({ model: config.model, device: config.device }, 'loading the model')
    /** Jobs that run here, and what is known of the requests that made them, for log lines. */
    const active = new Map<string, string | undefined>()
    const engine = await startEngine({
      model: config.model,
      modelsDir: config.modelsDir,
      device: config.device,
      ...(config.maxBatchRows === undefined ? {} : { maxBatchRows: config.maxBatchRows }),
      batchPolicy: config.batchPolicy,
      ...(config.engineMemoryLimitBytes === undefined ? {} : { memoryLimitBytes: config.engineMemoryLimitBytes }),
      ...(config.cacheDir === undefined ? {} : { cacheDir: config.cacheDir }),
      ...(engineEntry === undefined ? {} : { entry: engineEntry }),
      stepTimeoutMs: config.engineStepTimeoutMs,
      onEvent: (event) => logEngineEvent(logger, event, active),
      onStep: (step) => metrics.observeStep(step),
    })
    metrics.follow(engine)
    cleanups.push(() => engine.close())

    const store = watchEnds(createJobStore({ redis, prefix, now }), (status, code) => metrics.countEnd(status, code))
    const outbox = createWebhookOutbox({ redis, prefix, onError, telemetry: tracing.telemetry })
    cleanups.push(() => outbox.close())
    const processJob = createProcessJob({
      store,
      outbox,
      engine,
      storage,
      logger,
      metrics,
      tracing,
      workerId: id,
      provenance: toProvenance(engine.capabilities, config),
      logPrompts: config.logPrompts,
      uploadRetryMs,
      onRecord: (record) => active.set(record.id, record.requestId),
      now,
    })
    /** Of the active jobs, those whose lock is lost. */
    const lockless = new Set<string>()
    const worker = new Worker<GenerateJobData, string>(
      generateQueueName(engine.capabilities.modelId),
      async (job, token, signal) => {
        active.set(job.data.id, undefined)
        try {
          return await processJob(job, token, signal)
        } finally {
          active.delete(job.data.id)
          lockless.delete(job.data.id)
        }
      },
      {
        connection: redis,
        prefix,
        concurrency: config.concurrency,
        lockDuration: config.jobLockDurationMs,
        stalledInterval: config.jobLockDurationMs,
        maxStalledCount,
        autorun: false,
        skipVersionCheck: true,
        ...(tracing.telemetry === undefined ? {} : { telemetry: tracing.telemetry }),
      },
    )
    worker.on('error', (error) => {
      // BullMQ names the job in its text alone, of a lost lock for one.
      const jobId = [...active.keys()].find((activeId) => error.message.includes(activeId))
      logger.warn({ jobId, requestId: active.get(jobId ?? ''), err: error }, 'queue')
    })
    // Of these two BullMQ has just heard from Redis, so that a read is no wait.
    worker.on('failed', (job, error) => {
      // An end that the record knows has been told with it.
      if (error instanceof UnrecoverableError) return
      const jobId = job?.data.id
      void findRequestId(store, jobId ?? '').then((requestId) => logger.error({ jobId, requestId, err: error }, 'run broke off'))
    })
    worker.on('stalled', (jobId) => {
      metrics.countStall()
      const message = 'job was left by its worker and is put back'
      void findRequestId(store, jobId).then((requestId) => logger.warn({ jobId, requestId }, message))
    })
    worker.on('lockRenewalFailed', (jobIds) => {
      // Told again at every renewal until the run is over.
      const known = lockless.size
      for (const jobId of jobIds) if (active.has(jobId)) lockless.add(jobId)
      metrics.countLostLocks(lockless.size - known)
    })
    const stopJob = (jobId: string, reason: StopReason): void => void worker.cancelJob(jobId, reason)

    // Cancels arrive as messages; one that was published while the connection was away is found in the record.
    const subscriber = connect()
    subscriber.on('message', (_, jobId) => stopJob(jobId, 'canceled'))
    subscriber.on('ready', () => {
      for (const jobId of active.keys())
        store
          .isCancelRequested(jobId)
          .then((requested) => requested && stopJob(jobId, 'canceled'))
          .catch(onError)
    })
    await subscriber.subscribe(createKeys(prefix).cancelChannel)

    // The connection that waits for jobs is one of its own and may be the only one that is down.
    const blocking = await worker.backend.blockingClient
    const isReady = (): boolean => blocking?.status === 'ready' && engine.hasModel && worker.isRunning()

    const presence = createPresence({
      registry: createModelRegistry({ redis, prefix, now }),
      engine,
      workerId: id,
      concurrency: config.concurrency,
      maxPixels: config.maxPixels,
      gpu: config.gpu,
      onStats: (stats) => metrics.takeStats(stats),
      active: () => active.size,
      isReady,
      logger,
      now,
    })
    const running = worker.run()
    running.catch((error: unknown) => logger.error({ err: error }, 'queue'))
    cleanups.push(() => presence.close())
    await presence.begin()
    // Whoever waits for it to be ready finds it in the list of workers.
    answersReady = isReady
    // Again after every reconnect: Redis may have come back empty.
    redis.on('ready', presence.announce)
    const logTotals = async (): Promise<void> => {
      const [{ created = 0 }, queued] = await Promise.all([store.counters(), store.count('', 'queued')])
      logger.info({ totalRequests: created, activeInferences: active.size, queueDepth: queued, engineRestarts: engine.restarts }, 'totals')
    }
    logger.info({ worker: id, concurrency: config.concurrency }, 'ready')

    if (config.metricsLogIntervalMs > 0) {
      const timer = setInterval(() => {
        logTotals().catch(onError)
      }, config.metricsLogIntervalMs)
      cleanups.push(() => clearInterval(timer))
    }

    let closing: Promise<void> | undefined
    const close = async (graceMs: number): Promise<void> => {
      logger.info({ active: active.size, graceMs }, 'shutting down')
      const drained = new AbortController()
      const closed = worker.close().finally(() => drained.abort())
      await Promise.race([closed, sleep(graceMs, undefined, { signal: drained.signal }).catch(() => {})])
      for (const jobId of active.keys()) stopJob(jobId, 'hand_over')
      // An engine that hangs gives no checkpoint: its jobs go back as they came.
      const patience = setTimeout(() => void engine.close(), handOverLimitMs)
      await closed.finally(() => clearTimeout(patience))
      await cleanUp()
      logger.info('shut down')
    }
    return {
      id,
      get enginePid() {
        return engine.pid
      },
      isReady,
      close(graceMs = config.shutdownGraceMs) {
        closing ??= close(graceMs)
        return closing
      },
    }
  } catch (error) {
    await cleanUp()
    throw error
  }
}

/** A store that is down may come up after us; one that refuses us will not change its mind. */
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

/** `active`: request ids of the jobs that run now, by job id. */
function logEngineEvent(logger: Logger, event: EngineEvent, active: ReadonlyMap<string, string | undefined>): void {
  switch (event.type) {
    case 'ready': {
      const { modelId, provider, providerReason, loadMs } = event.capabilities
      logger.info({ pid: event.pid, model: modelId, provider, reason: providerReason, loadMs: Math.round(loadMs) }, 'engine is ready')
      if (provider === 'cpu') logger.warn('the model runs on the CPU')
      break
    }
    case 'hung':
      logger.error({ pid: event.pid, ...toIds(event.calls, active) }, 'engine shows no sign of work; it is killed')
      break
    case 'died':
      logger.error({ pid: event.pid, how: event.how, ...toIds(event.calls, active) }, 'engine process died; another is started')
      break
    case 'ended':
      logger.info({ pid: event.pid, how: event.how }, 'engine process ended')
      break
    case 'recycled':
      logger.info({ pid: event.pid, memoryBytes: event.memoryBytes }, 'engine process is replaced because of its memory')
      break
    case 'limit_too_low':
      logger.warn(
        { pid: event.pid, memoryBytes: event.memoryBytes },
        'the engine cannot do with ENGINE_MEMORY_LIMIT; it is replaced when it has grown further',
      )
      break
    case 'load_failed':
      logger.error({ retryMs: event.retryInMs }, event.message)
  }
}

/** The id of a call begins with that of its job. Of each job in turn, `requestIds` has the request that made it. */
function toIds(calls: readonly string[], active: ReadonlyMap<string, string | undefined>) {
  const jobIds = calls.map((call) => call.slice(0, call.indexOf('/')))
  return { jobIds, requestIds: jobIds.map((jobId) => active.get(jobId) ?? null) }
}
