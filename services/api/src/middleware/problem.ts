/**
 * Owns how an error becomes a response: RFC 9457 problem+json, from the contract's table. A client never sees the text of an error that was
 * not meant for it; that goes into the log.
 */
import type { Hook } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { ProblemError, createJobRequestSchema, problemSchema, problemTable } from '@easel/contract'
import type { Problem, ProblemCode } from '@easel/contract'
import { isRedisUnavailable } from '@easel/job-store'
import { StorageError } from '@easel/storage'
import type { AppEnv } from '../app-deps.ts'
import { toFieldErrors } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'
import { pathJobId } from './path-job-id.ts'

const problemType = 'application/problem+json'
/** The Retry-After in seconds of a request that failed because of an outage. */
const outageRetrySeconds = 5

type ProblemStatus = (typeof problemTable)[ProblemCode]['status']

/** `status`: for a dialect whose clients expect another status for this code. */
export function sendProblem<Status extends ContentfulStatusCode = ProblemStatus>(
  c: Context<AppEnv>,
  error: ProblemError,
  status: Status = problemTable[error.code].status as Status,
) {
  const row = problemTable[error.code]
  const problem: Problem = {
    type: `about:blank#${error.code}`,
    title: row.title,
    status,
    code: error.code,
    detail: error.message,
    retryable: row.retryable,
    request_id: c.var.requestId,
  }
  if (error.errors !== undefined) problem.errors = [...error.errors]
  setRetryHeaders(c, error)
  return c.json(problem, status, { 'Content-Type': problemType })
}

/** Sets the headers that say when to repeat a refused request and which limit refused it; the same in every dialect. */
export function setRetryHeaders(c: Context<AppEnv>, { limit, retryAfterSeconds }: ProblemError): void {
  if (retryAfterSeconds === undefined) return
  c.header('Retry-After', String(retryAfterSeconds))
  if (limit === undefined) return
  c.header('RateLimit-Policy', `"${limit.name}";q=${limit.quota}`)
  c.header('RateLimit', `"${limit.name}";r=0;t=${retryAfterSeconds}`)
}

/** What a client may learn about an error. */
export function toProblemError(error: unknown, c: Context<AppEnv>): ProblemError {
  if (error instanceof ProblemError) return error
  const { path } = c.req
  const line = { err: error, path, jobId: pathJobId(path) }
  if (isRedisUnavailable(error)) {
    c.var.logger.warn({ ...line, err: undefined, reason: (error as Error).message }, 'redis does not answer')
    return new ProblemError('queue_unavailable', undefined, { retryAfterSeconds: outageRetrySeconds, cause: error })
  }
  if (error instanceof StorageError) {
    c.var.logger.error(line, 'the image store does not answer')
    return new ProblemError('storage_unavailable', undefined, { retryAfterSeconds: outageRetrySeconds, cause: error })
  }
  if (error instanceof HTTPException && error.status < 500) {
    const code: ProblemCode = error.status === 415 ? 'unsupported_media_type' : error.status === 413 ? 'body_too_large' : 'malformed_body'
    return new ProblemError(code, error.message === '' ? undefined : error.message)
  }
  c.var.logger.error(line, 'request failed')
  return new ProblemError('internal', undefined, { cause: error })
}

/** The hook of every route: what zod refuses becomes a 422. */
export const refuseInvalid: Hook<unknown, AppEnv, string, unknown> = (result) => {
  if (result.success) return
  const known = result.target === 'json' ? Object.keys(createJobRequestSchema.shape) : []
  throw refuseFields(toFieldErrors(result.error, (result as { data?: unknown }).data, known))
}

/** The description of a response that is a problem. */
interface ProblemResponse {
  description: string
  content: { [problemType]: { schema: typeof problemSchema } }
}

/** The problem responses of a route, for its OpenAPI description and its types. */
export function describeProblems<Code extends ProblemCode>(...codes: readonly Code[]) {
  const byStatus = Map.groupBy<number, ProblemCode>(codes, (code) => problemTable[code].status)
  const responses = [...byStatus].map(([status, those]) => [
    status,
    {
      description: those.map((code) => `\`${code}\`: ${problemTable[code].title}`).join(' '),
      content: { [problemType]: { schema: problemSchema } },
    },
  ])
  return Object.fromEntries(responses) as Record<(typeof problemTable)[Code]['status'], ProblemResponse>
}
