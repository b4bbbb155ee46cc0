/** Entry of the api process: reads the environment, starts, says where it listens, and ends in order on the first SIGTERM or SIGINT. */
import { pino } from 'pino'
import { ConfigError, readConfig } from './config.ts'
import type { ApiConfig } from './config.ts'
import { serveApi } from './serve.ts'

const startedAt = performance.now()
const config = configOrExit()
const logger = pino({ level: config.LOG_LEVEL, base: { service: 'api' }, redact: ['req.headers.authorization', '*.secret', '*.apiKey'] })

try {
  const api = await serveApi({ config, logger })
  const where = { url: config.PUBLIC_URL, host: config.HOST, port: api.port, defaultModel: config.defaultModel }
  logger.info({ ...where, ms: Math.round(performance.now() - startedAt) }, 'api listens')

  let stopping = false
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1)
    stopping = true
    logger.info({ signal, graceSeconds: config.SHUTDOWN_GRACE }, 'api stops; a second signal ends it at once')
    api.close().then(
      () => logger.info('api stopped'),
      (error: unknown) => {
        logger.error({ err: error }, 'api stopped with an error')
        process.exitCode = 1
      },
    )
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
} catch (error) {
  logger.fatal({ err: error }, 'api could not start')
  process.exitCode = 1
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
