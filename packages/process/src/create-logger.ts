/**
 * The log of a process: one JSON object per line, or readable lines where the output is a terminal. Secrets of the environment, and private
 * data that errors of libraries carry, stay out of it. Runs in both services.
 */
import { pino, stdSerializers, stdTimeFunctions } from 'pino'
import type { DestinationStream, Logger, LoggerOptions } from 'pino'
import { readEnvironment } from './config.ts'
import type { Environment, ProcessConfig } from './config.ts'
import { toLoggedError } from './logged-error.ts'
import { createSecretFilter } from './secret-filter.ts'

export interface LoggerSettings {
  /** Told in every line. */
  service: string
  /** The lowest level that is written. */
  level: ProcessConfig['logLevel']
  /** The environment whose secrets are removed from every line. Default: this process's. */
  env?: Environment
  /** Where lines go. Default: stdout. */
  output?: { write(text: string): unknown; isTTY?: boolean }
}

export async function createLogger({ service, level, env = readEnvironment(), output = process.stdout }: LoggerSettings): Promise<Logger> {
  const options: LoggerOptions = {
    level,
    base: { service },
    timestamp: stdTimeFunctions.isoTime,
    serializers: { err: stdSerializers.wrapErrorSerializer(toLoggedError) },
    hooks: { streamWrite: createSecretFilter(env) },
  }
  return pino(options, output.isTTY === true ? await toReadableLines(output) : toDestination(output))
}

/** Stdout is written synchronously, so that no line is lost when the process ends. */
function toDestination(output: NonNullable<LoggerSettings['output']>): DestinationStream {
  return output === process.stdout ? pino.destination({ dest: 1, sync: true }) : output
}

async function toReadableLines(output: NonNullable<LoggerSettings['output']>): Promise<DestinationStream> {
  const { prettyFactory } = await import('pino-pretty')
  const toLine = prettyFactory({
    colorize: true,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'service',
    messageFormat: '{service}: {msg}',
    singleLine: true,
  })
  return { write: (line) => void output.write(toLine(line) ?? '') }
}
