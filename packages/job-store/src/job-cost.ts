/** What a job will cost, before it runs. The fair share, limits and estimated times are computed in this currency. Pure. */
import { countStepsRun } from '@easel/contract'
import type { ModelRecord } from '@easel/contract'
import type { WorkInput } from './job-record.ts'

/** What a step of a default-sized picture is assumed to cost where none has been measured, so that no job is free. In milliseconds. */
const unknownStepMs = 1000

/** The estimated device time in milliseconds, from the steps that run, pictures, size (relative to the default), guidance and measured times. */
export function toCostMs(input: WorkInput, model?: Pick<ModelRecord, 'defaults' | 'step_ms'>): number {
  const { num_images_per_prompt: images, width, height, guidance_scale: guidance } = input
  const pixels = model === undefined ? 1 : (width * height) / (model.defaults.width * model.defaults.height)
  const [from, to] = input.guidance_interval ?? [0, 1]
  // Without guidance each step has half the rows.
  const rows = guidance > 1 ? (1 + (to - from)) / 2 : 1 / 2
  return countStepsRun(input) * images * pixels * rows * (model?.step_ms ?? unknownStepMs)
}
