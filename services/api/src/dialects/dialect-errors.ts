/** Gives every error the shape of the dialect to which its path belongs, including errors that arise before a route is reached. */
import type { Context } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import { sendProblem, toProblemError } from '../middleware/problem.ts'
import { dialects } from './dialects.ts'

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
  const dialect = [...dialects.values()].find(({ isOwnPath }) => isOwnPath(c.req.path))
  return dialect === undefined ? sendProblem(c, error) : dialect.sendError(c, error)
}
