/** What a job will cost, before it runs. The fair share, limits and estimated times are computed in this currency. Pure. */
import { countStepsRun, guidedPart } from '@easel/contract'
import type { ModelRecord } from '@easel/contract'
import type { WorkInput } from './job-record.ts'

/** What a step of a default-sized picture is assumed to cost where none has been measured, so that no job is free. In milliseconds. */
const unknownStepMs = 1000

type CostModel = Pick<ModelRecord, 'defaults' | 'step_ms' | 'picture_ms'>

/** Estimated milliseconds of the device. */
export function toCostMs(input: WorkInput, model?: CostModel): number {
  return toStepsMs(input, model) + toPicturesMs(input, model)
}

/** Of the steps: those that are run × pictures × size over the model's default size, with guidance or without, in measured steps. */
export function toStepsMs(input: WorkInput, model?: CostModel): number {
  const rows = guidedPart(input.guidance_scale, input.guidance_interval)
  return countStepsRun(input) * toDefaultSized(input, model) * rows * (model?.step_ms ?? unknownStepMs)
}

/** Of texts and decodings, where they have been measured. */
function toPicturesMs(input: WorkInput, model?: CostModel): number {
  return toDefaultSized(input, model) * (model?.picture_ms ?? 0)
}

/** Pictures of the model's default size that are as large as those of the job. */
function toDefaultSized({ num_images_per_prompt: images, width, height }: WorkInput, model?: CostModel): number {
  return model === undefined ? images : (images * width * height) / (model.defaults.width * model.defaults.height)
}
