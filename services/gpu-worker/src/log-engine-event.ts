/** Logs what happens to the engine process. Runs in the worker's main process. */
import type { Logger } from 'pino'
import type { ActiveJobs } from './queue/active-jobs.ts'
import type { EngineEvent } from './engine/engine-supervisor.ts'

export function logEngineEvent(logger: Logger, event: EngineEvent, active: ActiveJobs): void {
  switch (event.type) {
    case 'ready': {
      const { modelId, provider, providerReason, weights, weightsReason, graphs, loadMs } = event.capabilities
      logger.info(
        {
          pid: event.pid,
          model: modelId,
          provider,
          reason: providerReason,
          graphs,
          weights,
          weightsReason,
          loadMs: Math.round(loadMs),
        },
        'engine is ready',
      )
      if (provider === 'cpu') logger.warn('the model runs on the CPU')
      break
    }
    case 'hashed': {
      const { pid, contentHash, durationMs } = event
      logger.info({ pid, contentHash, durationMs: Math.round(durationMs) }, "the model's hash is known")
      break
    }
    case 'silent_load':
      logger.warn(
        { pid: event.pid, silentMs: event.silentMs, limitMs: event.limitMs },
        'engine shows no sign of work while it loads the model',
      )
      break
    case 'hung':
      logger.error({ pid: event.pid, ...active.toFields(event.about) }, 'engine shows no sign of work; it is killed')
      break
    case 'died':
      logger.error({ pid: event.pid, how: event.how, ...active.toFields(event.about) }, 'engine process died; another is started')
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
        'the engine needs more than ENGINE_MEMORY_LIMIT; it is replaced when it has grown further',
      )
      break
    case 'load_failed':
      logger.error({ retryMs: event.retryInMs }, event.message)
  }
}
