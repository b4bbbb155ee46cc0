/** The device time that a job needs, in milliseconds, by the newest measurements of its model. Pure. */
import type { ModelRecord } from '@easel/contract'
import { toCostMs, toStepsMs } from '@easel/job-store'
import type { JobWork } from '@easel/job-store'

/** From its start to its end. The present measurements may be better than the estimate made when the job came, perhaps without any. */
export function toWholeMs({ costMs, input }: Pick<JobWork, 'costMs' | 'input'>, model: ModelRecord | undefined): number {
  return model?.step_ms == null ? (costMs ?? toCostMs(input, model)) : toCostMs(input, model)
}

/**
 * From the end of its last reported step to the job's own end; with `nowMs`, from now. Time that has passed since then never counts for more than
 * what comes next, a step or the decoding.
 */
export function toLeftMs(job: JobWork, model: ModelRecord | undefined, nowMs?: number): number {
  const { step, total } = job.progress
  const stepsMs = toStepsMs(job.input, model)
  const leftMs = toWholeMs(job, model) - stepsMs * (total > 0 ? Math.min(1, step / total) : 0)
  if (nowMs === undefined || job.steppedAt === undefined) return leftMs
  const nextMs = step < total ? stepsMs / total : leftMs
  return leftMs - Math.min(Math.max(0, nowMs - job.steppedAt), nextMs)
}
