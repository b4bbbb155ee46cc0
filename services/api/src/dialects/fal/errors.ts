/** Errors as fal's clients expect them: `detail` is a list of refused fields with 422, otherwise a sentence. */
import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { problemTable } from '@easel/contract'
import type { ProblemCode, ProblemError } from '@easel/contract'
import type { AppEnv } from '../../app-deps.ts'
import { setRetryHeaders } from '../../middleware/problem.ts'

export function isFalPath(path: string): boolean {
  return path.startsWith('/fal/')
}

export const falErrorSchema = z
  .object({
    detail: z.union([
      z.string(),
      z.array(
        z.object({
          loc: z.array(z.string()).describe('`body`, `query` or `header`, then the path of the field.'),
          msg: z.string(),
          type: z.string(),
        }),
      ),
    ]),
  })
  .meta({ id: 'FalError' })
export type FalError = z.infer<typeof falErrorSchema>

const statuses: Partial<Record<ProblemCode, number>> = { model_not_found: 404 }
/** Fields that are not part of the body. */
const places: Record<string, string> = {
  fal_webhook: 'query',
  fal_max_queue_length: 'query',
  'Idempotency-Key': 'header',
  'x-fal-queue-priority': 'header',
  'x-fal-request-timeout': 'header',
}

export function sendFalError(c: Context<AppEnv>, error: ProblemError): Response {
  const status = statuses[error.code] ?? problemTable[error.code].status
  setRetryHeaders(c, error)
  const fields = status === 422 ? error.errors : undefined
  const detail = fields?.map(({ field, expected, received }) => {
    const loc = [places[field] ?? 'body', ...(field === '' ? [] : field.split('.'))]
    return { loc, msg: `expected ${expected}, got ${received}`, type: 'value_error' }
  })
  return c.json({ detail: detail ?? error.message } satisfies FalError, status as ContentfulStatusCode)
}
