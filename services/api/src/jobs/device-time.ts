/** The device time that a job needs, in milliseconds, by the newest measurements of its model. Pure. */
import type { ModelRecord } from '@easel/contract'
import { toCostMs, toStepsMs } from '@easel/job-store'
import type { JobWork } from '@easel/job-store'

/** From its start to its end. What is measured now may be better than what was known when the job came, which may have been nothing. */
export function toWholeMs({ costMs, input }: Pick<JobWork, 'costMs' | 'input'>, model: ModelRecord | undefined): number {
  return model?.step_ms == null ? (costMs ?? toCostMs(input, model)) : toCostMs(input, model)
}

/** From now to its end. */
export function toLeftMs(job: JobWork, model: ModelRecord | undefined): number {
  const { step, total } = job.progress
  // The decoding comes after the last step.
  return toWholeMs(job, model) - toStepsMs(job.input, model) * (total > 0 ? Math.min(1, step / total) : 0)
}
