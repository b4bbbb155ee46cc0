/** What a job will cost, before it runs: the currency of the fair share, of limits and of estimated times. Pure. */
import { countStepsRun } from '@easel/contract'
import type { ModelRecord } from '@easel/contract'
import type { WorkInput } from './job-record.ts'

/** A step of a default-sized picture costs this where none was measured, so that a job is never free. Milliseconds. */
const unknownStepMs = 1000

/** Estimated milliseconds of the device: steps that are run × pictures × size over the model's default size, with guidance or without, in measured steps. */
export function toCostMs(input: WorkInput, model?: Pick<ModelRecord, 'defaults' | 'step_ms'>): number {
  const { num_images_per_prompt: images, width, height, guidance_scale: guidance } = input
  const pixels = model === undefined ? 1 : (width * height) / (model.defaults.width * model.defaults.height)
  const [from, to] = input.guidance_interval ?? [0, 1]
  // Without guidance each step has half the rows.
  const rows = guidance > 1 ? (1 + (to - from)) / 2 : 1 / 2
  return countStepsRun(input) * images * pixels * rows * (model?.step_ms ?? unknownStepMs)
}
