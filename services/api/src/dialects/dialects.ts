/**
 * What the rest of the api has to know about each dialect: which paths are its own, the shape of its errors, and the shape of webhook messages
 * about jobs that were made through it. A dialect that uses this service's own shapes for both, such as `diffusers/`, is not listed. The routes
 * are added in `app.ts`. Pure.
 */
import type { Context } from 'hono'
import type { Job, ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import { isFalPath, sendFalError } from './fal/errors.ts'
import { toFalWebhook } from './fal/to-result.ts'
import { isOpenAiPath, sendOpenAiError } from './openai/errors.ts'
import { isReplicatePath, sendReplicateError } from './replicate/errors.ts'
import { toPrediction } from './replicate/to-prediction.ts'

export interface Dialect {
  /** Whether errors at this path have the dialect's shape, including those that arise before a route is reached. */
  isOwnPath: (path: string) => boolean
  sendError: (c: Context<AppEnv>, error: ProblemError) => Response
  /** The body of a webhook message. Default: that of this service. */
  toWebhookBody?: (job: Job, urls: { publicUrl: string }) => unknown
}

const table = {
  openai: { isOwnPath: isOpenAiPath, sendError: sendOpenAiError },
  replicate: { isOwnPath: isReplicatePath, sendError: sendReplicateError, toWebhookBody: toPrediction },
  fal: { isOwnPath: isFalPath, sendError: sendFalError, toWebhookBody: toFalWebhook },
} satisfies Record<string, Dialect>

/** The name in a job's record of the dialect through which it was made. */
export type DialectName = keyof typeof table

export const dialects: ReadonlyMap<string, Dialect> = new Map(Object.entries(table))
