/** A job as fal's queue shows it: its state, its result, and the message about its end. A failed job is COMPLETED with an error. Pure. */
import { z } from '@hono/zod-openapi'
import { isEnded } from '@easel/contract'
import type { Job } from '@easel/contract'
import type { StreamedJobEvent } from '@easel/job-store'
import { toOwnedPath } from '../model-name.ts'
import { toProgressLine } from '../progress-line.ts'

const logSchema = z.object({ message: z.string(), level: z.enum(['INFO', 'ERROR']), source: z.literal('USER'), timestamp: z.string() })
export type FalLog = z.infer<typeof logSchema>

const urlFields = {
  request_id: z.string(),
  response_url: z.string(),
  status_url: z.string(),
  cancel_url: z.string(),
}
export const falStatusSchema = z
  .object({
    status: z.enum(['IN_QUEUE', 'IN_PROGRESS', 'COMPLETED']),
    ...urlFields,
    queue_position: z.int().optional().describe('Jobs before this one, while it waits.'),
    logs: z.array(logSchema).nullable().describe('With `logs=1`.'),
    metrics: z.object({ inference_time: z.number().nullable() }).optional().describe('Seconds from the start, once completed.'),
    error: z.string().optional().describe('Why it failed.'),
  })
  .meta({ id: 'FalStatus' })
export type FalStatus = z.infer<typeof falStatusSchema>

export const falResultSchema = z
  .object({
    images: z.array(z.object({ url: z.string(), content_type: z.string(), file_name: z.string(), width: z.int(), height: z.int() })),
    timings: z.object({ inference: z.number().describe('Seconds.') }).partial(),
    seed: z.int(),
    prompt: z.string(),
  })
  .meta({ id: 'FalResult' })
export type FalResult = z.infer<typeof falResultSchema>

/** `logs` is null when they were not asked for. */
export function toStatus(job: Job, { publicUrl, logs }: { publicUrl: string; logs: FalLog[] | null }): FalStatus {
  const url = `${publicUrl}/fal/queue/${toOwnedPath(job.input.model)}/requests/${job.id}`
  const urls = { request_id: job.id, response_url: url, status_url: `${url}/status`, cancel_url: `${url}/cancel` }
  if (job.status === 'queued') return { status: 'IN_QUEUE', ...urls, queue_position: Math.max(0, (job.queue_position ?? 1) - 1), logs }
  if (job.status === 'running') return { status: 'IN_PROGRESS', ...urls, logs }
  const failure = toFailure(job)
  return {
    status: 'COMPLETED',
    ...urls,
    logs,
    metrics: { inference_time: inferenceSeconds(job) ?? null },
    error: failure,
  }
}

export function toLogs(events: readonly StreamedJobEvent[]): FalLog[] {
  return events.flatMap((event) => {
    if (event.type !== 'progress') return []
    const timestamp = new Date(Number(event.id.split('-')[0])).toISOString()
    return [{ message: toProgressLine(event), level: 'INFO' as const, source: 'USER' as const, timestamp }]
  })
}

/** The result of a job that succeeded. */
export function toResult(job: Job): FalResult {
  const seconds = inferenceSeconds(job)
  return {
    images: (job.output?.images ?? []).map(({ url, content_type, width, height }) => {
      return { url, content_type, file_name: url.slice(url.lastIndexOf('/') + 1), width, height }
    }),
    timings: seconds === undefined ? {} : { inference: seconds },
    seed: job.input.seed,
    prompt: job.input.prompt,
  }
}

/** Says why an ended job has no result; undefined when it has one. */
export function toFailure({ status, error }: Job): string | undefined {
  if (!isEnded(status) || status === 'succeeded') return undefined
  return error?.message ?? 'The request was canceled.'
}

export function toFalWebhook(job: Job): object {
  const failure = toFailure(job)
  const ids = { request_id: job.id, gateway_request_id: job.id }
  if (failure === undefined) return { ...ids, status: 'OK', payload: toResult(job) }
  return { ...ids, status: 'ERROR', error: failure, payload: { detail: failure } }
}

function inferenceSeconds({ started_at, completed_at }: Job): number | undefined {
  if (started_at === null || completed_at === null) return undefined
  return (Date.parse(completed_at) - Date.parse(started_at)) / 1000
}
