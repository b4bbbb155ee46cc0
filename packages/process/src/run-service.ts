/**
 * The life of a service's process: configuration, log, traces, signals, exit code.
 *
 * What prevents a start is reported once, as a sentence on stderr or to the process that started it, and the process exits with 1. The first
 * SIGTERM or SIGINT shuts the service down cleanly, within its grace and a few seconds even if Redis or the store cannot be reached; the second
 * ends it at once. Knows nothing about what the service does.
 */
import type { Logger } from 'pino'
import { ConfigError, readEnvironment } from './config.ts'
import type { ProcessConfig } from './config.ts'
import { createLogger } from './create-logger.ts'
import { createSecretFilter } from './secret-filter.ts'
import { noTracing } from './tracing.ts'
import type { Tracing } from './tracing.ts'

interface ServiceDefinition<Config extends ProcessConfig> {
  /** Used in log lines and messages, and with the prefix `easel-` in traces. */
  name: string
  /** Throws a `ConfigError`. */
  readConfig: () => Config
  start: (context: ServiceContext<Config>) => Promise<Closable>
}

interface ServiceContext<Config> {
  config: Config
  logger: Logger
  tracing: Tracing
}

interface Closable {
  /** Finishes what is under way within the grace, then releases everything. */
  close(): Promise<void>
}

/** What a service sends to a process that has started it with an IPC channel, such as `easel start`. */
export type StartMessage = { type: 'ready' } | { type: 'cannot_start'; sentence: string }

/** How long releasing everything may take after the grace, in milliseconds. */
const lettingGoMs = 4000

export async function runService<Config extends ProcessConfig>(definition: ServiceDefinition<Config>): Promise<void> {
  const { name } = definition
  const fail = async (error: unknown): Promise<never> => {
    const sentence = createSecretFilter(readEnvironment())(`The ${name} cannot start. ${toSentence(error)}\n`)
    if (process.send === undefined) process.stderr.write(sentence)
    else await tellStarter({ type: 'cannot_start', sentence: sentence.trim() })
    return process.exit(1)
  }
  let config: Config
  try {
    config = definition.readConfig()
  } catch (error) {
    return await fail(error)
  }
  const logger = await createLogger({ service: name, level: config.logLevel })
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, `${name} failed`)
    process.exit(1)
  })
  const closeInOrder = endOnSignals(name, logger, config)
  try {
    const tracing = await openTracing(name, config)
    closeInOrder(await definition.start({ config, logger, tracing }), tracing)
    await tellStarter({ type: 'ready' })
  } catch (error) {
    logger.debug({ err: error }, `${name} cannot start`)
    await fail(error)
  }
}

async function tellStarter(message: StartMessage): Promise<void> {
  await new Promise<void>((resolve) => {
    if (process.send === undefined) resolve()
    // The starter may no longer exist, which is not an error here.
    else process.send(message, () => resolve())
  })
}

/** Returns the function that registers what to close. Before it is called there is nothing to close, and a signal ends the process. */
function endOnSignals(name: string, logger: Logger, { shutdownGraceMs }: ProcessConfig): (service: Closable, tracing: Tracing) => void {
  let close: (() => Promise<void>) | undefined
  let stopping = false
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping || close === undefined) {
      logger.info({ signal }, `${name} ends at once`)
      process.exit(stopping ? 1 : 0)
    }
    stopping = true
    logger.info({ signal, graceMs: shutdownGraceMs }, `${name} stops; a second signal ends it at once`)
    setTimeout(() => {
      logger.error(`${name} could not stop cleanly in time`)
      process.exit(1)
    }, shutdownGraceMs + lettingGoMs).unref()
    close().then(
      () => {
        logger.info(`${name} stopped`)
        process.exit(0)
      },
      (error: unknown) => {
        logger.error({ err: error }, `${name} stopped with an error`)
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return (service, tracing) => {
    close = async () => {
      await service.close()
      await tracing.close()
    }
  }
}

async function openTracing(name: string, { otlpEndpoint: endpoint }: ProcessConfig): Promise<Tracing> {
  if (endpoint === undefined) return noTracing
  const { startTracing } = await import('./start-tracing.ts')
  return startTracing({ endpoint, service: `easel-${name}` })
}

function toSentence(error: unknown): string {
  if (error instanceof ConfigError) return `These variables are wrong:\n${error.message}`
  return error instanceof Error ? error.message : String(error)
}
