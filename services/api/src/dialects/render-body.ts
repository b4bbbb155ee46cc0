/** Which shape the webhook messages of a job have: those of the service whose dialect it was made through. Pure. */
import type { DialectName } from '@easel/job-store'
import type { RenderBody } from '../webhooks/to-message.ts'
import { toFalWebhook } from './fal/to-result.ts'
import { toPrediction } from './replicate/to-prediction.ts'

/** Undefined: this service's own shape. */
export function toRenderBody(dialect: DialectName | undefined, publicUrl: string): RenderBody | undefined {
  if (dialect === 'replicate') return ({ job }) => toPrediction(job, { publicUrl })
  if (dialect === 'fal') return ({ job }) => toFalWebhook(job)
  return undefined
}
