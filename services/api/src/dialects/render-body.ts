/** The shape of a job's webhook messages: that of the service through whose dialect it was made. Pure. */
import type { DialectName } from '@easel/job-store'
import type { RenderBody } from '../webhooks/to-message.ts'
import { toFalWebhook } from './fal/to-result.ts'
import { toPrediction } from './replicate/to-prediction.ts'

/** Undefined for this service's own shape. */
export function toRenderBody(dialect: DialectName | undefined, publicUrl: string): RenderBody | undefined {
  if (dialect === 'replicate') return ({ job }) => toPrediction(job, { publicUrl })
  if (dialect === 'fal') return ({ job }) => toFalWebhook(job)
  return undefined
}
