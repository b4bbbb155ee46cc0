/** Entry of the api process: reads the environment, starts, says where it listens, and ends in order on the first SIGTERM or SIGINT. */
import { pino, stdSerializers, stdTimeFunctions } from 'pino'
import { ConfigError } from '@easel/contract'
import { toLoggedError } from '@easel/job-store'
import { noTracing } from '@easel/tracing'
import type { Tracing } from '@easel/tracing'
import { readConfig, readSecretFilter } from './config.ts'
import type { ApiConfig } from './config.ts'
import { serveApi } from './serve.ts'

/** Longest that letting go of connections may take once all requests have ended. */
const lettingGoMs = 10_000

const startedAt = performance.now()
const config = configOrExit()
const logger = pino({
  level: config.LOG_LEVEL,
  timestamp: stdTimeFunctions.isoTime,
  base: { service: 'api' },
  serializers: { err: stdSerializers.wrapErrorSerializer(toLoggedError) },
  hooks: { streamWrite: readSecretFilter() },
})
process.on('uncaughtException', (error) => {
  logger.fatal({ err: error }, 'api failed')
  process.exit(1)
})

try {
  const tracing = await openTracing(config)
  const api = await serveApi({ config, logger, tracing })
  const where = { url: config.PUBLIC_URL, host: config.HOST, port: api.port, defaultModel: config.defaultModel }
  logger.info({ ...where, ms: Math.round(performance.now() - startedAt) }, 'api listens')

  let stopping = false
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1)
    stopping = true
    logger.info({ signal, graceSeconds: config.SHUTDOWN_GRACE }, 'api stops; a second signal ends it at once')
    // Redis or the store may go away while the api waits for them.
    setTimeout(
      () => {
        logger.error('api could not stop in order')
        process.exit(1)
      },
      config.SHUTDOWN_GRACE * 1000 + lettingGoMs,
    ).unref()
    const close = async (): Promise<void> => {
      await api.close()
      await tracing.close()
    }
    close().then(
      () => {
        logger.info('api stopped')
        process.exit(0)
      },
      (error: unknown) => {
        logger.error({ err: error }, 'api stopped with an error')
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
} catch (error) {
  logger.fatal({ err: error }, 'api could not start')
  process.exitCode = 1
}

async function openTracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }: ApiConfig): Promise<Tracing> {
  if (endpoint === undefined) return noTracing
  const { startTracing } = await import('@easel/tracing/start')
  return startTracing({ endpoint, service: 'easel-api' })
}

function configOrExit(): ApiConfig {
  try {
    return readConfig()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`The api cannot start, because of these environment variables:\n${error.message}\n`)
    return process.exit(1)
  }
}
