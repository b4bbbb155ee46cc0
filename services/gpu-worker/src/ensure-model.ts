/**
 * Makes sure that the model is on disk before the engine looks for it: with AUTO_PULL, a missing preset or hub repository is pulled.
 *
 * Invariant: workers that share a models directory pull a model once; if this process is killed, what it has fetched is kept for the next.
 * Knows nothing about loading. Runs in the worker's main process.
 */
import type { Logger } from 'pino'
import type { WorkerConfig } from './config.ts'

/** The progress of a pull. */
export interface PullProgress {
  doneBytes: number
  totalBytes: number
}

export interface EnsureModelOptions {
  config: Pick<WorkerConfig, 'model' | 'modelsDir' | 'modelParts' | 'autoPull' | 'hub'>
  logger: Logger
  onProgress: (progress: PullProgress) => void
}

/** The time between two log lines about the same pull. */
const logIntervalMs = 15_000

export async function ensureModel({ config, logger, onProgress }: EnsureModelOptions): Promise<void> {
  const { model, modelsDir, modelParts } = config
  if (!config.autoPull) return
  // Loaded only here, because the main process has no other use for it.
  const { ModelNotFoundError, resolveModel } = await import('@easel/pipeline')
  const { isRepositoryName, pullByName } = await import('@easel/model-store')
  try {
    resolveModel(model, { modelsDir, modelParts })
    return
  } catch (error) {
    // If the name cannot be that of a repository, the engine will say what is wrong with it.
    if (!(error instanceof ModelNotFoundError) || !isRepositoryName(model)) return
  }
  const startedAt = performance.now()
  let saidAt = -Infinity
  const { path, totalBytes } = await pullByName(model, {
    env: config.hub,
    modelsDir,
    onlyIfMissing: true,
    signal: new AbortController().signal,
    onEvent(event) {
      if (event.type === 'waiting') logger.info({ model }, 'another worker is pulling the model; waiting for it')
      if (event.type === 'retry') logger.warn({ model, reason: event.reason, waitMs: event.waitMs }, 'the pull is tried again')
      if (event.type !== 'progress') return
      onProgress({ doneBytes: event.doneBytes, totalBytes: event.totalBytes })
      if (performance.now() - saidAt < logIntervalMs) return
      saidAt = performance.now()
      const percent = Math.floor((100 * event.doneBytes) / Math.max(1, event.totalBytes))
      logger.info({ model, percent, doneBytes: event.doneBytes, totalBytes: event.totalBytes }, 'pulling the model')
    },
  })
  logger.info({ model, path, totalBytes, ms: Math.round(performance.now() - startedAt) }, 'the model is complete')
}
