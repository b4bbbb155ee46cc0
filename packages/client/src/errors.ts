/**
 * Owns the errors that a caller can catch, and how an answer of the service becomes one of them.
 *
 * Invariant: everything that goes wrong between the caller and a picture is an EaselError with a code, with two exceptions: when the caller aborts
 * a signal, the call rejects with that signal's reason, and a call that is itself wrong (an unknown option, for example) throws a TypeError.
 */
import type { FieldError, JobErrorCode, Problem, ProblemCode } from '@easel/contract'
import type { CanceledJob, FailedJob } from './ended-job.ts'

/**
 * The service's code for a refused request or a failed job, or one of the client's own: `unreachable` (no answer came), `unknown` (the answer is not
 * the service's but, for example, a proxy's), `canceled` (the job was canceled), `invalid_webhook`.
 */
export type ErrorCode = ProblemCode | JobErrorCode | 'unreachable' | 'unknown' | 'canceled' | 'invalid_webhook'

export interface ErrorDetails {
  code: ErrorCode
  /** The HTTP status. Default: none, because there was no answer, or because the request succeeded and the job failed. */
  status?: number
  /** Whether the same call may succeed later. Default: false. */
  retryable?: boolean
  /** The refused fields. Default: none. */
  errors?: readonly FieldError[]
  requestId?: string | undefined
  retryAfterSeconds?: number | undefined
  cause?: unknown
}

export class EaselError extends Error {
  override readonly name: string = 'EaselError'
  readonly code: ErrorCode
  /** The HTTP status; undefined when the error is not about an answer. */
  readonly status: number | undefined
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean
  /** Every refused field, with what was expected and what was received. Empty when the error is not about fields. */
  readonly errors: readonly FieldError[]
  /** The first refused field. */
  readonly field: string | undefined
  /** The id of the request in the service's log. */
  readonly requestId: string | undefined
  /** After how many seconds to try again, as the service said; undefined when it did not say. */
  readonly retryAfterSeconds: number | undefined
  /** How often the request was sent. */
  attempts = 1

  constructor(message: string, details: ErrorDetails) {
    super(message, { cause: details.cause })
    this.code = details.code
    this.status = details.status
    this.retryable = details.retryable ?? false
    this.errors = details.errors ?? []
    this.field = details.errors?.[0]?.field
    this.requestId = details.requestId
    this.retryAfterSeconds = details.retryAfterSeconds
  }
}

/** There was no answer: the service cannot be reached or took too long, or the connection broke. The request may have been carried out. */
export class ConnectionError extends EaselError {
  override readonly name = 'ConnectionError'

  constructor(message: string, { cause }: { cause?: unknown } = {}) {
    super(message, { code: 'unreachable', retryable: true, cause })
  }
}

/** 400, 413, 415, 422: the request cannot be accepted as it is. `errors` names the fields. */
export class InvalidRequestError extends EaselError {
  override readonly name = 'InvalidRequestError'
}

/** 401: the API key is missing or wrong. */
export class AuthenticationError extends EaselError {
  override readonly name = 'AuthenticationError'
}

/** 404 and 410: there is no such job, upload or picture, or it no longer exists (`expired`). */
export class NotFoundError extends EaselError {
  override readonly name = 'NotFoundError'
}

/** 409: the state of the job does not allow this; it cannot be canceled, for example, after it has ended (`job_finished`). */
export class ConflictError extends EaselError {
  override readonly name = 'ConflictError'
}

/** 429: too many requests, or too many jobs are waiting. `retryAfterSeconds` says when to try again. */
export class RateLimitError extends EaselError {
  override readonly name = 'RateLimitError'
}

/** 5xx: the service, or a proxy in front of it, cannot answer now. */
export class ServerError extends EaselError {
  override readonly name = 'ServerError'
}

/** The job failed. `code` is the job's. */
export class JobFailedError extends EaselError {
  override readonly name = 'JobFailedError'
  readonly job: FailedJob

  constructor(job: FailedJob) {
    super(`Job ${job.id} failed: ${job.error.message}`, { code: job.error.code, retryable: job.error.retryable })
    this.job = job
  }
}

/** The job was canceled. */
export class JobCanceledError extends EaselError {
  override readonly name = 'JobCanceledError'
  readonly job: CanceledJob

  constructor(job: CanceledJob) {
    super(`Job ${job.id} was canceled.`, { code: 'canceled' })
    this.job = job
  }
}

/** A message that must not be trusted: it is not signed with any of the secrets, is too old, or is not a message of the service. */
export class WebhookVerificationError extends EaselError {
  override readonly name = 'WebhookVerificationError'

  constructor(message: string) {
    super(message, { code: 'invalid_webhook' })
  }
}

/** The error for an answer that is not a success. */
export async function toError(response: Response): Promise<EaselError> {
  const { status, headers } = response
  const problem = await readProblem(response)
  const message = problem.detail ?? problem.title ?? `The server answered ${status}.`
  const details: ErrorDetails = {
    code: problem.code ?? 'unknown',
    status,
    retryable: problem.retryable ?? retryableStatuses.has(status),
    errors: problem.errors ?? [],
    requestId: problem.request_id ?? headers.get('x-request-id') ?? undefined,
    retryAfterSeconds: toRetryAfterSeconds(headers.get('retry-after')),
  }
  return new (classOf(status))(message, details)
}

/** Used for answers that are not the service's own. */
const retryableStatuses: ReadonlySet<number> = new Set([408, 429, 502, 503, 504])

function classOf(status: number): typeof EaselError {
  if (status === 401) return AuthenticationError
  if (status === 404 || status === 410) return NotFoundError
  if (status === 409) return ConflictError
  if (status === 429) return RateLimitError
  if (status === 400 || status === 413 || status === 415 || status === 422) return InvalidRequestError
  return status >= 500 ? ServerError : EaselError
}

/** Empty when the answer is not one of the service's problems. Throws when the body breaks off, because the connection is lost then. */
async function readProblem(response: Response): Promise<Partial<Problem>> {
  const text = await response.text()
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && 'code' in value ? (value as Problem) : {}
  } catch {
    return {}
  }
}

/** `header`: a number of seconds, or a date. */
function toRetryAfterSeconds(header: string | null): number | undefined {
  if (header === null) return undefined
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}
