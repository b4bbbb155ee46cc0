/** Errors as Replicate's clients expect them: `title`, `detail`, `status`. */
import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { problemTable } from '@easel/contract'
import type { ProblemError } from '@easel/contract'
import type { AppEnv } from '../../app-deps.ts'
import { setRetryHeaders } from '../../middleware/problem.ts'

export function isReplicatePath(path: string): boolean {
  return /^\/v1\/(?:predictions(?:\/|$)|files(?:\/|$)|models\/[^/]+\/|webhooks\/default\/)/.test(path)
}

export const replicateErrorSchema = z
  .object({ title: z.string(), detail: z.string().describe('One line for each refused field.'), status: z.int() })
  .meta({ id: 'ReplicateError' })

export function sendReplicateError(c: Context<AppEnv>, error: ProblemError): Response {
  const { status, title } = problemTable[error.code]
  setRetryHeaders(c, error)
  const lines = error.code === 'invalid_request' || error.code === 'invalid_image' ? error.errors : undefined
  const detail = lines?.map(({ field, expected, received }) => `- ${field}: expected ${expected}, got ${received}\n`).join('')
  const body = { title, detail: detail ?? error.message, status } satisfies z.infer<typeof replicateErrorSchema>
  return c.json(body, status as ContentfulStatusCode)
}
