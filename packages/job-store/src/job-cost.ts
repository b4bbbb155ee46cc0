/** What a job will cost, before it runs. The fair share, limits and estimated times are computed in this currency. Pure. */
import { countStepsRun, guidedPart } from '@easel/contract'
import type { ModelRecord } from '@easel/contract'
import type { WorkInput } from './job-record.ts'

/** The assumed cost of a step of a default-sized picture, in milliseconds, while none has been measured, so that no job is free. */
const unknownStepMs = 1000

type CostModel = Pick<ModelRecord, 'defaults' | 'step_ms' | 'picture_ms'>

/** Estimated milliseconds of the device. */
export function toCostMs(input: WorkInput, model?: CostModel): number {
  return toStepsMs(input, model) + toPicturesMs(input, model)
}

/** The cost of the steps: steps to run × pictures × size relative to the default size × share of guidance × measured time of a step. */
export function toStepsMs(input: WorkInput, model?: CostModel): number {
  const rows = guidedPart(input.guidance_scale, input.guidance_interval)
  return countStepsRun(input) * toDefaultSized(input, model) * rows * (model?.step_ms ?? unknownStepMs)
}

/** The cost of encoding texts and decoding pictures; 0 while it has not been measured. */
function toPicturesMs(input: WorkInput, model?: CostModel): number {
  return toDefaultSized(input, model) * (model?.picture_ms ?? 0)
}

/** How many pictures of the model's default size are as large as the job's pictures together. */
function toDefaultSized({ num_images_per_prompt: images, width, height }: WorkInput, model?: CostModel): number {
  return model === undefined ? images : (images * width * height) / (model.defaults.width * model.defaults.height)
}
