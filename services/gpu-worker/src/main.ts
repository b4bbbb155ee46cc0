/**
 * Entry of the worker's main process: configuration, signals, exit code.
 *
 * The first SIGTERM or SIGINT ends in order: running jobs finish within SHUTDOWN_GRACE or are handed over. The second ends at once.
 */
import pino from 'pino'
import { ConfigError } from '@easel/contract'
import { toLoggedError } from '@easel/job-store'
import { noTracing } from '@easel/tracing'
import type { Tracing } from '@easel/tracing'
import { readConfig, readSecretFilter } from './config.ts'
import type { WorkerConfig } from './config.ts'
import { startWorkerService } from './worker-service.ts'
import type { WorkerService } from './worker-service.ts'

let config: WorkerConfig
try {
  config = readConfig()
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`These variables are wrong:\n${error.message}\n`)
  process.exit(1)
}

const logger = pino({
  level: config.logLevel,
  base: { service: 'gpu-worker' },
  timestamp: pino.stdTimeFunctions.isoTime,
  serializers: { err: pino.stdSerializers.wrapErrorSerializer(toLoggedError) },
  hooks: { streamWrite: readSecretFilter() },
})
process.on('uncaughtException', (error) => {
  logger.fatal({ err: error }, 'the worker failed')
  process.exit(1)
})
let service: WorkerService | undefined
let tracing: Tracing = noTracing
let stopping = false

const onSignal = (signal: NodeJS.Signals): void => {
  logger.info({ signal }, stopping ? 'ending at once' : 'ending in order')
  // Nothing to drain before it is ready.
  if (stopping || service === undefined) process.exit(stopping ? 1 : 0)
  stopping = true
  const close = async (): Promise<void> => {
    await service?.close()
    await tracing.close()
  }
  close().then(
    () => process.exit(0),
    (error: unknown) => {
      logger.fatal({ err: error }, 'shutdown failed')
      process.exit(1)
    },
  )
}
process.on('SIGTERM', onSignal)
process.on('SIGINT', onSignal)

try {
  if (config.otlpEndpoint !== undefined) {
    const { startTracing } = await import('@easel/tracing/start')
    tracing = startTracing({ endpoint: config.otlpEndpoint, service: 'easel-gpu-worker' })
  }
  service = await startWorkerService({ config, logger, tracing })
} catch (error) {
  logger.fatal({ err: error }, 'the worker cannot start')
  process.exit(1)
}
