/** Continues where an earlier run of the same call stopped. Knows nothing about why it stopped. */
import type { Generator, GeneratorState } from '../tensor/random-normal.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { expectDims, GenerateParamsError } from './generate-params.ts'
import type { ResumePoint } from './generate-params.ts'

/** What the point must fit. */
export interface ResumedRun {
  readonly generators: readonly Generator[]
  /** Whether the scheduler draws noise at every step. */
  readonly drawsNoise: boolean
  /** The number of steps of the whole call. */
  readonly steps: number
  /** (rows, channels, height / 8, width / 8) */
  readonly latentDims: readonly number[]
}

/** Sets the generators to where the earlier run stopped and returns its latents. */
export function resumeAt(
  { step, latents, generatorState }: ResumePoint,
  { generators, drawsNoise, steps, latentDims }: ResumedRun,
): Tensor {
  if (!Number.isInteger(step) || step < 0 || step > steps)
    throw new GenerateParamsError('resume.step', `an integer from 0 to ${steps}`, String(step))
  expectDims('resume.latents', latents, latentDims)
  const states: readonly GeneratorState[] =
    generatorState === undefined ? [] : Array.isArray(generatorState) ? generatorState : [generatorState]
  if ((drawsNoise || states.length > 0) && states.length !== generators.length)
    throw new GenerateParamsError('resume.generatorState', `one state for each of the ${generators.length} generators`, `${states.length}`)
  for (const [index, state] of states.entries()) generators[index]?.setState(state)
  return latents
}
