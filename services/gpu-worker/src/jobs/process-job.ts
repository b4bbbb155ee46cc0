/**
 * Takes one job from the queue to its stored pictures. Runs in the worker's main process.
 *
 * Invariants: nothing is done for a job whose record is not running, or that asks for another model than this worker's. The end is claimed in
 * the record exactly once, before BullMQ is told. An object exists before the record names it. A job may run twice, even at the same time:
 * both runs write the same bytes under the same keys, and the first claim wins.
 *
 * The signal that comes with a job is aborted for one of two reasons: `canceled`, or `hand_over` when this worker must end. On a hand-over the
 * latents are stored and the job goes back to the queue, so that another worker can continue from the same step and make the same bytes.
 */
import { UnrecoverableError, WaitingError } from 'bullmq'
import type { Job, Processor } from 'bullmq'
import type { Logger } from 'pino'
import { jobErrorTable } from '@easel/contract'
import type { JobError, JobErrorCode, Provenance, Timings } from '@easel/contract'
import type { GenerateJobData, JobRecord, JobStore, WebhookOutbox } from '@easel/job-store'
import { StorageError } from '@easel/storage'
import type { Tracing } from '@easel/process'
import { EngineError } from '../engine/engine.ts'
import type { Engine, EngineResult } from '../engine/engine.ts'
import type { EngineTimings } from '../engine/protocol.ts'
import { createProgressReporter } from './progress-reporter.ts'
import type { ProgressSink } from './progress-reporter.ts'
import { loadStart } from '../pictures/load-start.ts'
import { runInEngine } from './run-in-engine.ts'
import { deleteImages, storeImages } from '../pictures/store-images.ts'
import type { ImageStore } from '../pictures/store-images.ts'
import type { WorkerMetrics } from '../status/worker-metrics.ts'

export interface ProcessJobDeps extends ImageStore {
  store: JobStore
  /** The webhook messages about what happens here; Redis itself queues the one about the end. */
  outbox: WebhookOutbox
  engine: Engine
  /** What pictures are made with here; resolves once the model's hash has been computed. Rejects with an EngineError. */
  provenance: (signal: AbortSignal) => Promise<Provenance>
  logger: Logger
  metrics: WorkerMetrics
  tracing: Tracing
  workerId: string
  /** Whether prompts may appear in the log. */
  logPrompts: boolean
  /** Called for every job that has a record, before anything is done for it. Default none. */
  onRecord?: (record: JobRecord) => void
  /** ms since the epoch. */
  now: () => number
}

/** Why a running job must stop. */
export type StopReason = 'canceled' | 'hand_over'

export type ProcessJob = Processor<GenerateJobData, string>

/** BullMQ passes the signal only to processors that declare three parameters. */
export function createProcessJob(deps: ProcessJobDeps): ProcessJob {
  return (job, token, signal) => processJob(deps, job, token ?? '', signal ?? new AbortController().signal)
}

// oxlint-disable-next-line max-lines-per-function -- one sequence, its phases numbered.
async function processJob(deps: ProcessJobDeps, job: Job<GenerateJobData>, token: string, stopped: AbortSignal): Promise<string> {
  const { store, outbox, engine, storage, metrics, tracing, workerId, now } = deps
  const { id } = job.data

  // 1. Start, unless the job has ended, was canceled or came too late
  const started = await store.start(id, workerId)
  if (started.result !== 'missing') deps.onRecord?.(started.record)
  const requestId = started.result === 'missing' ? undefined : started.record.requestId
  const logger = deps.logger.child({ jobId: id, requestId })
  if (started.result === 'expired') {
    logger.info({ status: 'failed', code: started.result }, 'job ended')
    throw new UnrecoverableError(jobErrorTable.expired.message)
  }
  if (started.result !== 'running') {
    if (started.result === 'missing' || started.record.status === 'canceled') forgetInQueue(job)
    logger.info({ status: started.result }, 'job must not be run')
    return started.result
  }
  const { record } = started
  const { input, runs, strikes } = record
  const { modelId: served } = engine.capabilities
  // BullMQ must not retry it here: housekeeping will put it into the queue of its own model.
  if (input.model !== served) {
    logger.error({ model: input.model, served }, 'job is for another model and is not run here')
    throw new UnrecoverableError(`Expected a job of the model ${served}, got one of ${input.model}`)
  }
  const waitMs = Math.max(0, (record.startedAt ?? now()) - record.createdAt)
  const prompts = deps.logPrompts ? { prompt: input.prompt, negative_prompt: input.negative_prompt } : {}
  logger.info({ run: runs, strikes, waitMs, ...prompts }, 'job started')
  if (runs === 1) metrics.observeWait(waitMs)
  const expiry = toTimeoutSignal(record, now())
  const signal = expiry === undefined ? stopped : AbortSignal.any([stopped, expiry])
  const reporter = createProgressReporter(toSink(store, outbox, record), (error) => logger.warn({ err: error }, 'progress was not written'))
  // A second run adds nothing, because the message is known by its id.
  await outbox.add(record, 'started').catch((error: unknown) => logger.warn({ err: error }, 'webhook message was not queued'))
  let isStoring = false

  try {
    // 2. Make the pictures
    const start = await loadStart(deps, input, { signal, logger })
    const result = await tracing.span('generate', { attributes: { 'easel.job_id': id, 'easel.worker': workerId } }, async () => {
      const beganAt = now()
      const isHandOver = (): boolean => toStopReason(stopped) === 'hand_over'
      const made = await runInEngine(record, { engine, store, callId: `${id}/${token}`, start, signal, isHandOver, reporter, logger })
      recordPhases(tracing, made.timings, beganAt, now())
      return made
    })

    // 3. Store them
    const provenance = withLoras(await deps.provenance(signal), result)
    const uploadAt = now()
    isStoring = true
    const { images, bytes } = await tracing.span('upload', {}, () =>
      storeImages(deps, record, result.images, { provenance, signal, logger }),
    )
    await reporter.finish()

    // 4. Claim the end
    metrics.observePhases(result.timings)
    metrics.observeUpload(now() - uploadAt)
    const timings = toTimings(record, result, { uploadMs: now() - uploadAt, now: now() })
    const end = await store.end(id, {
      status: 'succeeded',
      output: { images },
      timings,
      provenance,
      gpuMs: result.timings.deviceMs,
      bytes,
    })
    if (end.result !== 'claimed') logger.info({ end }, 'another run has ended the job')
    // It has been canceled or deleted meanwhile.
    if (end.result === 'missing' || end.status === 'canceled') forgetInQueue(job)
    if (end.result === 'missing' || (end.result === 'claimed' && end.status === 'canceled')) await deleteImages(storage, record, logger)
    logger.info({ status: end.result === 'missing' ? 'missing' : end.status, ...timings }, 'job ended')
    return end.result === 'missing' ? 'missing' : end.status
  } catch (error) {
    // 5. Or hand over, or claim another end
    await reporter.flush()
    const reason = toStopReason(stopped)
    if (reason === 'hand_over') {
      await job.moveToWait(token)
      logger.info('job handed over')
      throw new WaitingError('handed over')
    }
    if (reason === 'canceled') {
      await store.end(id, { status: 'canceled' })
      forgetInQueue(job)
      if (isStoring) await deleteImages(storage, record, logger)
      logger.info({ status: 'canceled' }, 'job ended')
      return 'canceled'
    }
    const failure = expiry?.aborted === true ? toJobError('timeout') : toJobError(toErrorCode(error))
    const end = await store.end(id, { status: 'failed', error: failure })
    if (end.result === 'missing' || end.status === 'canceled') forgetInQueue(job)
    logger.error({ status: end.result === 'missing' ? 'missing' : end.status, code: failure.code, err: error }, 'job ended')
    throw new UnrecoverableError(`${failure.code}: ${failure.message}`)
  }
}

/** BullMQ keeps the ids of finished jobs for a while. A job that was canceled, and may be deleted by now, must leave nothing there. */
function forgetInQueue({ opts }: Job): void {
  opts.removeOnComplete = true
  opts.removeOnFail = true
}

function withLoras(provenance: Provenance, { loras }: EngineResult): Provenance {
  return loras.length === 0 ? provenance : { ...provenance, loras: loras.map(({ id, sha256 }) => ({ id, sha256 })) }
}

/** Spans of the phases, placed by their durations, because the engine has a clock of its own: encoding at the beginning, decoding at the end. */
function recordPhases(tracing: Tracing, { encodeMs, denoiseMs, decodeMs }: EngineTimings, beganAt: number, endedAt: number): void {
  tracing.record('encode', beganAt, beganAt + encodeMs)
  tracing.record('denoise', endedAt - decodeMs - denoiseMs, endedAt - decodeMs)
  tracing.record('decode', endedAt - decodeMs, endedAt)
}

/** The timeout counts from the first start, on whichever worker. */
function toTimeoutSignal({ timeoutSeconds, startedAt }: JobRecord, now: number): AbortSignal | undefined {
  if (timeoutSeconds === undefined) return undefined
  return AbortSignal.timeout(Math.max(0, (startedAt ?? now) + timeoutSeconds * 1000 - now))
}

function toStopReason(stopped: AbortSignal): StopReason | undefined {
  return stopped.aborted ? (stopped.reason === 'hand_over' ? 'hand_over' : 'canceled') : undefined
}

function toErrorCode(error: unknown): JobErrorCode {
  if (error instanceof StorageError) return 'storage_unavailable'
  if (!(error instanceof EngineError)) return 'internal'
  const { code } = error
  return code in jobErrorTable ? (code as JobErrorCode) : 'internal'
}

function toJobError(code: JobErrorCode): JobError {
  return { code, ...jobErrorTable[code] }
}

function toSink(store: JobStore, outbox: WebhookOutbox, record: JobRecord): ProgressSink {
  return {
    async progress(step, total) {
      await store.progress(record.id, step, total)
      await outbox.add(record, 'progress')
    },
    preview: (preview) => store.preview(record.id, preview),
  }
}

function toTimings(record: JobRecord, { timings }: EngineResult, { uploadMs, now }: { uploadMs: number; now: number }): Timings {
  // The clocks of two machines may differ by more than a wait takes.
  const since = (from: number, to: number): number => Math.max(0, to - from)
  return {
    queue_ms: since(record.createdAt, record.startedAt ?? now),
    encode_ms: Math.round(timings.encodeMs),
    denoise_ms: Math.round(timings.denoiseMs),
    decode_ms: Math.round(timings.decodeMs),
    upload_ms: uploadMs,
    total_ms: since(record.createdAt, now),
  }
}
