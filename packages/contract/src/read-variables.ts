/** How a service reads its environment and tells its operator what is wrong with it. */
import type { z } from 'zod'

type Environment = Readonly<Record<string, string | undefined>>

/** Told to the operator: every variable that is wrong, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** Throws a `ConfigError` that names every variable that is wrong. A variable set to nothing is unset. */
export function readVariables<Schema extends z.ZodType>(schema: Schema, env: Environment): z.output<Schema> {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''))
  const result = schema.safeParse(set)
  const problems = (result.error?.issues ?? []).map((issue) => toProblem(issue, set))
  // Not a check of the schema, which leaves out its checks of the whole when certain variables are wrong.
  const { MODEL, MODEL_PATH } = set
  if (MODEL !== undefined && MODEL_PATH !== undefined && MODEL !== MODEL_PATH)
    problems.push(`MODEL_PATH: Expected the same as MODEL (${MODEL}), got ${MODEL_PATH}`)
  if (result.success && problems.length === 0) return result.data
  throw new ConfigError(problems.join('\n'))
}

/** `NAME: what was expected, what came`. A number that is none is told as it was written; zod has only NaN left of it. */
function toProblem({ path, message }: z.core.$ZodIssue, env: Environment): string {
  const name = path.join('.')
  return `${name}: ${message.replace('received NaN', () => `received "${env[name]}"`)}`
}
