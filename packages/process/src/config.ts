/**
 * How a service reads its environment and tells the operator what is wrong with it, and the variables that every service has.
 *
 * Each service includes `processVariables` in its own schema and the result of `toProcessConfig` in its config, so that a config is spelt
 * the same everywhere: camelCase, with units in the names. Nothing is read on import.
 */
import { z } from 'zod'

export type Environment = Readonly<Record<string, string | undefined>>

/** Ends the start; the operator has to solve it. Lists the wrong variables by name, one per line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

const seconds = z.coerce.number().int().min(0)
/** `name=value`, separated by commas, as OpenTelemetry defines it. */
const headers = /^\s*[^=,\s]+\s*=[^,]*(,\s*[^=,\s]+\s*=[^,]*)*,?\s*$/

export const processVariables = {
  SHUTDOWN_GRACE: seconds
    .default(30)
    .describe('Seconds after SIGTERM in which requests and jobs under way may end; another worker then continues the remaining jobs.'),
  METRICS_LOG_INTERVAL: seconds.default(0).describe('Seconds between log lines of totals; 0 = none.'),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('Lowest severity of log lines that are written.'),
  LOG_PROMPTS: z.stringbool().default(false).describe('Whether the log contains the prompt and negative prompt of each job.'),
  OTEL_EXPORTER_OTLP_ENDPOINT: z
    .url({ protocol: /^https?$/, error: 'Expected an http:// or https:// URL' })
    .optional()
    .describe('OTLP endpoint to which traces are sent. Unset: no traces.'),
  OTEL_EXPORTER_OTLP_HEADERS: z
    .string()
    .regex(headers, 'Expected name=value, separated by commas')
    .optional()
    .describe(
      'Headers that are sent with traces, `name=value` separated by commas; values are percent-encoded, as in `authorization=Bearer%20KEY`. Unset: none.',
    ),
}

const processSchema = z.object(processVariables)

export interface ProcessConfig {
  shutdownGraceMs: number
  /** 0: no lines of totals. */
  metricsLogIntervalMs: number
  logLevel: z.output<typeof processSchema>['LOG_LEVEL']
  logPrompts: boolean
  /** Undefined: no traces. */
  otlpEndpoint: string | undefined
}

export function toProcessConfig(variables: z.output<typeof processSchema>): ProcessConfig {
  return {
    shutdownGraceMs: variables.SHUTDOWN_GRACE * 1000,
    metricsLogIntervalMs: variables.METRICS_LOG_INTERVAL * 1000,
    logLevel: variables.LOG_LEVEL,
    logPrompts: variables.LOG_PROMPTS,
    // The exporter reads its headers from the environment itself.
    otlpEndpoint: variables.OTEL_EXPORTER_OTLP_ENDPOINT,
  }
}

/** The environment of this process. A function, so that only `config.ts` files use process.env. */
export function readEnvironment(): Environment {
  return process.env
}

/** Throws a `ConfigError` that names every wrong variable. A variable set to an empty text counts as unset. */
export function readVariables<Schema extends z.ZodType>(schema: Schema, env: Environment = readEnvironment()): z.output<Schema> {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''))
  const result = schema.safeParse(set)
  const problems = (result.error?.issues ?? []).map((issue) => toProblem(issue, set))
  // Not part of the schema, because zod skips checks of the whole object while certain variables are wrong.
  const { MODEL, MODEL_PATH } = set
  if (MODEL !== undefined && MODEL_PATH !== undefined && MODEL !== MODEL_PATH)
    problems.push(`MODEL_PATH: Expected the same as MODEL (${MODEL}), got ${MODEL_PATH}`)
  if (result.success && problems.length === 0) return result.data
  throw new ConfigError(problems.join('\n'))
}

/** `NAME: what was expected, what was given`. An invalid number is quoted as it was written, because zod only has NaN. */
function toProblem({ path, message }: z.core.$ZodIssue, env: Environment): string {
  const name = path.join('.')
  return `${name}: ${message.replace('received NaN', () => `received "${env[name]}"`)}`
}
