/** How a service tells its operator which variable is wrong. Knows no variable by name. */
import type { z } from 'zod'

/** `NAME: what was expected, what came`. A number that is none is told as it was written; zod has only NaN left of it. */
export function toConfigProblem({ path, message }: z.core.$ZodIssue, env: Readonly<Record<string, string | undefined>>): string {
  const name = path.join('.')
  return `${name}: ${message.replace('received NaN', () => `received "${env[name]}"`)}`
}
