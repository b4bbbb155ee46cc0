/** Gives every error the shape of the dialect to which its path belongs, including errors that arise before a route is reached. */
import type { Context } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import { sendProblem, toProblemError } from '../middleware/problem.ts'
import { isFalPath, sendFalError } from './fal/errors.ts'
import { isOpenAiPath, sendOpenAiError } from './openai/errors.ts'
import { isReplicatePath, sendReplicateError } from './replicate/errors.ts'

/** The error handler of the whole app, for whatever a route throws. */
export function handleError(error: unknown, c: Context<AppEnv>): Response {
  return send(c, toProblemError(error, c))
}

export function handleNotFound(c: Context<AppEnv>): Response {
  return send(c, new ProblemError('not_found'))
}

export function sendMethodNotAllowed(c: Context<AppEnv>, methods: readonly string[]): Response {
  c.header('Allow', methods.join(', '))
  return send(c, new ProblemError('method_not_allowed', `Expected ${methods.join(' or ')}, got ${c.req.method}.`))
}

function send(c: Context<AppEnv>, error: ProblemError): Response {
  const { path } = c.req
  if (isOpenAiPath(path)) return sendOpenAiError(c, error)
  if (isReplicatePath(path)) return sendReplicateError(c, error)
  return isFalPath(path) ? sendFalError(c, error) : sendProblem(c, error)
}
