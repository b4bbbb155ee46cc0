/**
 * The spine: one job from the queue to its stored pictures. Runs in the worker's main process.
 *
 * Invariants: nothing is done for a job whose record is not running, or asks for another model than is here; the end is claimed in the
 * record exactly once, before BullMQ is told; an object exists before the record names it. A job may run twice, even at the same time: both
 * runs write the same bytes under the same keys, and the first claim wins.
 *
 * Suspects: when the engine process dies, every job in it is tried again at once inside this same call, alone in the engine. Only a death
 * with the job alone is a strike; three strikes and the job fails. Strikes live in the record, so they follow the job to other workers.
 * A job for which memory ran out is tried once more, alone in a fresh engine process.
 *
 * The signal that comes with a job is aborted with one of two reasons: `canceled`, or `hand_over` when this worker must end: then the
 * latents are stored and the job goes back to the queue, for another worker to go on from the same step to the same bytes.
 */
import { createHash } from 'node:crypto'
import { UnrecoverableError, WaitingError } from 'bullmq'
import type { Job, Processor } from 'bullmq'
import type { Logger } from 'pino'
import { imageKey, jobErrorTable } from '@easel/contract'
import type { JobError, JobErrorCode, Provenance, StoredImage, Timings } from '@easel/contract'
import type { GenerateJobData, JobRecord, JobStore, WebhookOutbox } from '@easel/job-store'
import { putWithRetry, StorageError } from '@easel/storage'
import type { Storage } from '@easel/storage'
import type { Tracing } from '@easel/process'
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint.ts'
import { describeImage } from './describe-image.ts'
import { contentTypes, encodeImage, encodePreview } from './encode-image.ts'
import { EngineError } from './engine/engine.ts'
import type { Engine, EngineResult } from './engine/engine.ts'
import type { Checkpoint, EngineTimings } from './engine/protocol.ts'
import { createProgressReporter } from './progress-reporter.ts'
import type { ProgressReporter, ProgressSink } from './progress-reporter.ts'
import { imageSeed, toEngineParams } from './to-engine-params.ts'
import type { WorkerMetrics } from './worker-metrics.ts'

export interface ProcessJobDeps {
  store: JobStore
  /** Webhook messages of what happens here; the one of the end is queued by Redis itself. */
  outbox: WebhookOutbox
  engine: Engine
  storage: Storage
  logger: Logger
  metrics: WorkerMetrics
  tracing: Tracing
  workerId: string
  /** What pictures are made with here: written into files and receipts, and how files are encoded. */
  provenance: Provenance
  /** Whether the log may say what pictures are to show. */
  logPrompts: boolean
  /** How long uploads are tried again, in ms. */
  uploadRetryMs: number
  /** Told of every job that has a record, before anything is done for it. Default: nobody is told. */
  onRecord?: (record: JobRecord) => void
  /** ms since the epoch. */
  now: () => number
}

/** Why a running job is told to stop. */
export type StopReason = 'canceled' | 'hand_over'

export type ProcessJob = Processor<GenerateJobData, string>

const maxStrikes = 3
/** A job that was handed over and not picked up for so long begins anew. */
const checkpointTtlSeconds = 86_400
const defaultQuality = 90

/** BullMQ passes the signal only to processors that declare three parameters. */
export function createProcessJob(deps: ProcessJobDeps): ProcessJob {
  return (job, token, signal) => processJob(deps, job, token ?? '', signal ?? new AbortController().signal)
}

async function processJob(deps: ProcessJobDeps, job: Job<GenerateJobData>, token: string, stopped: AbortSignal): Promise<string> {
  const { store, outbox, storage, metrics, tracing, workerId, now } = deps
  const { id } = job.data

  // 1. Start, unless it has ended, was canceled or came too late
  const started = await store.start(id, workerId)
  if (started.result !== 'missing') deps.onRecord?.(started.record)
  const requestId = started.result === 'missing' ? undefined : started.record.requestId
  const logger = deps.logger.child({ jobId: id, requestId })
  if (started.result === 'expired') {
    logger.info({ status: 'failed', code: started.result }, 'job ended')
    throw new UnrecoverableError(jobErrorTable.expired.message)
  }
  if (started.result !== 'running') {
    logger.info({ status: started.result }, 'job is not to be run')
    return started.result
  }
  const { record } = started
  const { input, runs, strikes } = record
  const { id: served } = deps.provenance.model
  // BullMQ is not to try it again here: housekeeping puts a job without an end into the queue of its model.
  if (input.model !== served) {
    logger.error({ model: input.model, served }, 'job is of another model and is not run here')
    throw new UnrecoverableError(`Expected a job of the model ${served}, got one of ${input.model}`)
  }
  const waitMs = Math.max(0, (record.startedAt ?? now()) - record.createdAt)
  const prompts = deps.logPrompts ? { prompt: input.prompt, negative_prompt: input.negative_prompt } : {}
  logger.info({ run: runs, strikes, waitMs, ...prompts }, 'job started')
  if (runs === 1) metrics.observeWait(waitMs)
  const expiry = toTimeoutSignal(record, now())
  const signal = expiry === undefined ? stopped : AbortSignal.any([stopped, expiry])
  const reporter = createProgressReporter(toSink(store, outbox, record), (error) => logger.warn({ err: error }, 'progress was not written'))
  // A second run adds nothing: the message is known by its id.
  await outbox.add(record, 'started').catch((error: unknown) => logger.warn({ err: error }, 'webhook message was not queued'))
  let written: StoredImage[] = []

  try {
    // 2. Make the pictures
    const result = await tracing.span('generate', { attributes: { 'easel.job_id': id, 'easel.worker': workerId } }, async () => {
      const beganAt = now()
      const made = await generate(deps, record, `${id}/${token}`, { signal, stopped, reporter, logger })
      recordPhases(tracing, made.timings, beganAt, now())
      return made
    })

    // 3. Store them
    const uploadAt = now()
    written = await tracing.span('upload', {}, () => storeImages(deps, record, result, signal, logger))
    await reporter.finish()

    // 4. Claim the end
    metrics.observePhases(result.timings)
    metrics.observeUpload(now() - uploadAt)
    const timings = toTimings(record, result, { uploadMs: now() - uploadAt, now: now() })
    const end = await store.end(id, { status: 'succeeded', output: { images: written }, timings, provenance: deps.provenance })
    if (end.result !== 'claimed') logger.info({ end }, 'another run has ended the job')
    else if (end.status === 'canceled') await deleteImages(storage, written, logger)
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
      logger.info({ status: 'canceled' }, 'job ended')
      return 'canceled'
    }
    const failure = expiry?.aborted === true ? toJobError('timeout') : toJobError(toErrorCode(error))
    const end = await store.end(id, { status: 'failed', error: failure })
    logger.error({ status: end.result === 'missing' ? 'missing' : end.status, code: failure.code, err: error }, 'job ended')
    throw new UnrecoverableError(`${failure.code}: ${failure.message}`)
  }
}

interface RunContext {
  /** Aborted by anything that ends the run. */
  signal: AbortSignal
  /** Aborted by a cancel or a hand-over. */
  stopped: AbortSignal
  reporter: ProgressReporter
  logger: Logger
}

/** Runs the engine until it gives pictures, or the job is to blame for its deaths. */
async function generate(deps: ProcessJobDeps, record: JobRecord, callId: string, context: RunContext): Promise<EngineResult> {
  const { store, engine } = deps
  const { signal, stopped, reporter, logger } = context
  const params = toEngineParams(record.input)
  // What has begun for the first time was not handed over by anyone.
  let resume = record.runs === 1 ? undefined : await loadCheckpoint(store, record.id, logger)
  let exclusive = record.strikes > 0
  let fresh = false

  for (;;) {
    // Asked for before the cancel that follows on the same channel, so no step is lost.
    let checkpoint: Promise<Checkpoint | undefined> | undefined
    const call = new AbortController()
    const stop = (): void => {
      if (toStopReason(stopped) === 'hand_over') checkpoint = engine.checkpoint(callId).catch(() => undefined)
      call.abort()
    }
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
    try {
      return await engine.generate(callId, params, {
        signal: call.signal,
        exclusive,
        fresh,
        onProgress: (step, total) => reporter.progress(step, total),
        ...(resume === undefined ? {} : { resume }),
        ...(record.previewEvery === undefined ? {} : { previewEvery: record.previewEvery }),
        onPreview: (step, image) => reporter.preview(image.index, step, () => encodePreview(image)),
      })
    } catch (error) {
      const saved = await checkpoint
      if (saved !== undefined) await store.saveCheckpoint(record.id, encodeCheckpoint(saved), checkpointTtlSeconds)
      if (signal.aborted || !(error instanceof EngineError)) throw error
      if (error.code === 'out_of_memory' && !fresh) {
        logger.warn({ err: error }, 'memory ran out; the job is tried once more, alone in a fresh engine process')
        fresh = true
        continue
      }
      if (!error.isCrash) throw error
      const strikes = error.alone ? await store.addStrike(record.id) : record.strikes
      logger.warn({ code: error.code, alone: error.alone, strikes }, 'the engine died under the job')
      if (error.alone && strikes >= maxStrikes) throw error
      exclusive = true
      // Where it went on from may be what kills the engine.
      resume = undefined
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }
}

async function storeImages(
  { storage, provenance, uploadRetryMs }: ProcessJobDeps,
  { id, input }: JobRecord,
  { images }: EngineResult,
  signal: AbortSignal,
  logger: Logger,
): Promise<StoredImage[]> {
  const { output_format: format, output_quality: quality = defaultQuality } = input
  const { png_compression_level: pngCompressionLevel } = provenance.encoder
  const contentType = contentTypes[format]
  return await Promise.all(
    images.map(async (image) => {
      const description = describeImage(input, image.index, provenance)
      const bytes = await encodeImage(image, { format, pngCompressionLevel, quality, description })
      const key = imageKey(id, image.index, format)
      await putWithRetry(
        storage,
        key,
        bytes,
        { contentType },
        {
          signal,
          retryForMs: uploadRetryMs,
          onRetry: ({ error, attempt, delayMs }) => logger.warn({ err: error, key, attempt, delayMs }, 'upload will be tried again'),
        },
      )
      logger.info({ key, bytes: bytes.length }, 'image saved')
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const { width, height } = image
      return { key, width, height, seed: imageSeed(input.seed, image.index), sha256, content_type: contentType }
    }),
  )
}

/** A cancel was accepted while the pictures were being stored: nobody will ask for them. What cannot be deleted is left to the sweep. */
async function deleteImages(storage: Storage, images: readonly StoredImage[], logger: Logger): Promise<void> {
  for (const { key } of images)
    await storage.delete(key).catch((error: unknown) => logger.warn({ err: error, key }, 'image was not deleted'))
}

/** The engine counts from a clock of its own: encoding came first, decoding last, the steps before it. */
function recordPhases(tracing: Tracing, { encodeMs, denoiseMs, decodeMs }: EngineTimings, beganAt: number, endedAt: number): void {
  tracing.record('encode', beganAt, beganAt + encodeMs)
  tracing.record('denoise', endedAt - decodeMs - denoiseMs, endedAt - decodeMs)
  tracing.record('decode', endedAt - decodeMs, endedAt)
}

async function loadCheckpoint(store: JobStore, id: string, logger: Logger): Promise<Checkpoint | undefined> {
  const bytes = await store.loadCheckpoint(id)
  if (bytes === undefined) return undefined
  const checkpoint = decodeCheckpoint(bytes)
  if (checkpoint === undefined) logger.warn('checkpoint cannot be read; the job begins anew')
  else logger.info({ step: checkpoint.step }, 'job goes on from its checkpoint')
  return checkpoint
}

/** The timeout counts from the first start, whichever worker made it. */
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
  return code === 'engine_crashed' || code === 'engine_hung' || code === 'out_of_memory' ? code : 'internal'
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
  // Clocks of two machines may disagree by more than a wait takes.
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
