/** A job as a prediction. Pure. */
import { z } from '@hono/zod-openapi'
import { isEnded, jobInputSchema } from '@easel/contract'
import type { Job } from '@easel/contract'
import { toOwnedName } from '../model-name.ts'
import { toProgressLine } from '../progress-line.ts'

export const predictionSchema = z
  .object({
    id: z.string(),
    model: z.string().describe('owner/name'),
    version: z.string().describe('The model; each model has one version.'),
    source: z.literal('api'),
    status: z.enum(['starting', 'processing', 'succeeded', 'failed', 'canceled']),
    input: jobInputSchema.omit({ model: true }).describe('Every parameter, defaults and seed included.'),
    output: z.array(z.string()).nullable().describe('URLs of the pictures.'),
    error: z.string().nullable(),
    logs: z.string().describe('The seed and the step.'),
    data_removed: z.literal(false),
    created_at: z.string(),
    started_at: z.string().nullable(),
    completed_at: z.string().nullable(),
    metrics: z.object({ predict_time: z.number(), total_time: z.number() }).partial().describe('Seconds.'),
    urls: z.object({ get: z.string(), cancel: z.string() }),
  })
  .meta({ id: 'Prediction' })
export type Prediction = z.infer<typeof predictionSchema>

const statuses = {
  queued: 'starting',
  running: 'processing',
  succeeded: 'succeeded',
  failed: 'failed',
  canceled: 'canceled',
} as const satisfies Record<Job['status'], Prediction['status']>

export interface PredictionOptions {
  publicUrl: string
  /** Whether the caller's wait for the end timed out; its client takes any status except `starting` for the end. Default false. */
  waitedInVain?: boolean
}

export function toPrediction(job: Job, { publicUrl, waitedInVain = false }: PredictionOptions): Prediction {
  const { model, ...input } = job.input
  const url = `${publicUrl}/v1/predictions/${job.id}`
  const lines = [`Using seed: ${input.seed}`, job.notice, job.progress.step > 0 ? toProgressLine(job.progress) : null]
  return {
    id: job.id,
    model: toOwnedName(model),
    version: model,
    source: 'api',
    status: waitedInVain && !isEnded(job.status) ? 'starting' : statuses[job.status],
    input,
    output: job.output?.images.map((image) => image.url) ?? null,
    error: job.error?.message ?? null,
    logs: lines.filter((line) => line !== null).join('\n'),
    data_removed: false,
    created_at: job.created_at,
    started_at: job.started_at,
    completed_at: job.completed_at,
    metrics: toMetrics(job),
    urls: { get: url, cancel: `${url}/cancel` },
  }
}

function toMetrics({ created_at, started_at, completed_at }: Job): Prediction['metrics'] {
  if (completed_at === null) return {}
  const end = Date.parse(completed_at)
  const seconds = (from: string): number => (end - Date.parse(from)) / 1000
  return { total_time: seconds(created_at), predict_time: started_at === null ? undefined : seconds(started_at) }
}
