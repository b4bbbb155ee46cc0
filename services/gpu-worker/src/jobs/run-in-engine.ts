/**
 * Runs one job in the engine, as many times as it takes. Runs in the worker's main process.
 *
 * Suspects: when the engine process dies, every job in it is retried at once within this same call, alone in the engine. Only a death while
 * the job was alone is a strike; after three strikes the job fails. Strikes are kept in the record, so they follow the job to other workers.
 *
 * Memory: a job that ran out of memory is retried alone in a process started after the one in which that happened. Jobs that found no memory
 * in the same process therefore share the next one, so that the process is replaced only once for all of them. A job that runs out of memory in
 * a process that has run nothing else fails.
 *
 * Hand-over: when this worker must end, the job's latents are stored before the call rejects, so that another worker can continue from them.
 */
import type { Logger } from 'pino'
import type { JobRecord, JobStore } from '@easel/job-store'
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint.ts'
import { encodePreview } from '../pictures/encode-image.ts'
import { EngineError } from '../engine/engine.ts'
import type { Engine, EngineResult } from '../engine/engine.ts'
import type { Checkpoint, StartFromPicture } from '../engine/protocol.ts'
import type { ProgressReporter } from './progress-reporter.ts'
import { toEngineParams } from './to-engine-params.ts'

export interface RunOptions {
  engine: Engine
  store: JobStore
  /** The id of the call, which differs from that of any other run of the job. */
  callId: string
  /** The pictures with which the job begins; undefined for noise. */
  start: StartFromPicture | undefined
  /** Aborted by anything that ends the run. */
  signal: AbortSignal
  /** Whether the run ended because of a hand-over. */
  isHandOver: () => boolean
  reporter: ProgressReporter
  logger: Logger
}

const maxStrikes = 3
/** A job that was handed over and not picked up for this long starts again from the beginning. */
const checkpointTtlSeconds = 86_400

/** Resolves to the pictures; rejects when the signal aborts, or when the job is to blame for what happened to the engine. */
export async function runInEngine(record: JobRecord, options: RunOptions): Promise<EngineResult> {
  const { store, logger, signal } = options
  // A job that starts for the first time cannot have been handed over.
  let resume = record.runs === 1 ? undefined : await loadCheckpoint(store, record.id, logger)
  let exclusive = record.strikes > 0
  let newerThan: number | undefined

  for (;;) {
    try {
      return await runOnce(record, options, { resume, exclusive, newerThan })
    } catch (error) {
      if (signal.aborted || !(error instanceof EngineError)) throw error
      const { code, alone, first, processNumber } = error
      if (code === 'out_of_memory' && !first) {
        logger.warn({ err: error }, 'memory ran out; the job is tried again, alone in a newer engine process')
        exclusive = true
        newerThan = processNumber
      } else if (error.isCrash) {
        const strikes = alone ? await store.addStrike(record.id) : record.strikes
        logger.warn({ code, alone, strikes }, 'the engine died while it ran the job')
        if (alone && strikes >= maxStrikes) throw error
        exclusive = true
        // The checkpoint itself may be what kills the engine.
        resume = undefined
      } else throw error
    }
  }
}

interface Attempt {
  resume: Checkpoint | undefined
  exclusive: boolean
  newerThan: number | undefined
}

async function runOnce(record: JobRecord, options: RunOptions, attempt: Attempt): Promise<EngineResult> {
  const { engine, store, callId, signal, isHandOver, reporter, start } = options
  let checkpoint: Promise<Checkpoint | undefined> | undefined
  const call = new AbortController()
  const stop = (): void => {
    // Requested before the cancel that follows on the same channel, so no step is lost.
    if (isHandOver()) checkpoint = engine.checkpoint(callId).catch(() => undefined)
    call.abort()
  }
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  try {
    const { images, loras, timings } = await engine.generate(callId, toEngineParams(record.input, start), {
      ...attempt,
      about: record.id,
      signal: call.signal,
      onProgress: (step, total) => reporter.progress(step, total),
      previewEvery: record.previewEvery,
      onPreview: (step, image) => reporter.preview(image.index, step, () => encodePreview(image)),
      owner: { name: record.owner, weight: record.weight ?? 1 },
    })
    return { images, loras, timings: { ...timings, deviceMs: timings.deviceMs * toWholeRun(record, attempt.resume) } }
  } catch (error) {
    const saved = await checkpoint
    if (saved !== undefined) await store.saveCheckpoint(record.id, encodeCheckpoint(saved), checkpointTtlSeconds)
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** All steps of the job divided by those made in this run; steps made earlier by another worker are assumed to have cost the same. */
function toWholeRun({ input }: JobRecord, resume: Checkpoint | undefined): number {
  const steps = input.num_inference_steps
  return resume === undefined || resume.step >= steps ? 1 : steps / (steps - resume.step)
}

async function loadCheckpoint(store: JobStore, id: string, logger: Logger): Promise<Checkpoint | undefined> {
  const bytes = await store.loadCheckpoint(id)
  if (bytes === undefined) return undefined
  const checkpoint = decodeCheckpoint(bytes)
  if (checkpoint === undefined) logger.warn('checkpoint cannot be read; the job starts again')
  else logger.info({ step: checkpoint.step }, 'job continues from its checkpoint')
  return checkpoint
}
