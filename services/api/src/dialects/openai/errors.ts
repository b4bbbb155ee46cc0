/** Errors as OpenAI's clients expect them. A refused request gets 400 with the name of the parameter. */
import type { Hook } from '@hono/zod-openapi'
import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { problemTable } from '@easel/contract'
import type { JobError, ProblemCode, ProblemError } from '@easel/contract'
import type { AppEnv } from '../../app-deps.ts'
import { setRetryHeaders } from '../../middleware/problem.ts'
import { suggestField, toFieldErrors } from '../../problems/field-errors.ts'
import { imagesRequestSchema } from './to-request.ts'

export function isOpenAiPath(path: string): boolean {
  return path.startsWith('/v1/images/') || /^\/v1\/models(?:\/[^/]+)?$/.test(path)
}

export const openAiErrorSchema = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.enum(['invalid_request_error', 'rate_limit_error', 'server_error']),
      param: z.string().nullable().describe('The first parameter that was refused.'),
      code: z.string().nullable(),
    }),
  })
  .meta({ id: 'OpenAiError' })
export type OpenAiError = z.infer<typeof openAiErrorSchema>

const statuses: Partial<Record<ProblemCode, number>> = {
  invalid_request: 400,
  invalid_image: 400,
  lora_not_found: 400,
  model_not_found: 404,
}
const codes: Partial<Record<ProblemCode, string>> = {
  invalid_request: 'invalid_value',
  unauthorized: 'invalid_api_key',
  rate_limited: 'rate_limit_exceeded',
}

export function sendOpenAiError(c: Context<AppEnv>, error: ProblemError): Response {
  setRetryHeaders(c, error)
  // The client retries 409 and 5xx by itself, which would draw the picture again while the first is still being drawn.
  if (error.code === 'wait_timeout' && c.req.header('idempotency-key') === undefined) c.header('X-Should-Retry', 'false')
  return send(c, toStatus(error), toOpenAiError(error))
}

export function toOpenAiError(error: ProblemError): OpenAiError['error'] {
  const param = error.errors?.[0]?.field ?? null
  return { message: error.message, type: typeOf(toStatus(error)), param, code: codes[error.code] ?? error.code }
}

function toStatus({ code }: ProblemError): number {
  return statuses[code] ?? problemTable[code].status
}

/** The error for a job that did not succeed; a job without an error was canceled. */
export function toJobFailure(error: JobError | undefined): OpenAiError['error'] {
  if (error === undefined) return { message: 'The job was canceled.', type: 'invalid_request_error', param: null, code: 'canceled' }
  return { message: error.message, type: 'server_error', param: null, code: error.code }
}

export function sendJobFailure(c: Context<AppEnv>, error: JobError | undefined): Response {
  // With an Idempotency-Key a repeated request gets the same job again.
  const worthRepeating = error?.retryable === true && c.req.header('idempotency-key') === undefined
  if (!worthRepeating) c.header('X-Should-Retry', 'false')
  return send(c, error === undefined ? 409 : 500, toJobFailure(error))
}

/** The routes' hook for what zod refuses. */
export const refuseParameters: Hook<unknown, AppEnv, string, unknown> = (result, c) => {
  return result.success ? undefined : sendRefusal(c, result.error, (result as { data?: unknown }).data)
}

/** `data`: what was validated. */
export function sendRefusal(c: Context<AppEnv>, error: z.core.$ZodError, data: unknown): Response {
  const [first] = toFieldErrors(error, data)
  const [issue] = error.issues
  const { field: param = '', expected = '', received = '' } = first ?? {}
  if (issue?.code === 'unrecognized_keys') {
    const meant = suggestField(param, Object.keys(imagesRequestSchema.shape))
    const hint = meant === undefined ? '' : ` Did you mean '${meant}'?`
    return send(c, 400, {
      message: `Unknown parameter: '${param}'.${hint}`,
      type: 'invalid_request_error',
      param,
      code: 'unknown_parameter',
    })
  }
  const isMissing = typeof data === 'object' && data !== null && param !== '' && !Object.hasOwn(data, param.split('.')[0] ?? '')
  const message = isMissing ? `Missing required parameter: '${param}'.` : `Invalid '${param}': expected ${expected}, got ${received}.`
  const code = isMissing ? 'missing_required_parameter' : 'invalid_value'
  return send(c, 400, { message, type: 'invalid_request_error', param: param === '' ? null : param, code })
}

function typeOf(status: number): OpenAiError['error']['type'] {
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}

function send(c: Context<AppEnv>, status: number, error: OpenAiError['error']): Response {
  return c.json({ error } satisfies OpenAiError, status as ContentfulStatusCode)
}
