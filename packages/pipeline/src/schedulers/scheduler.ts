/**
 * The interface of a noise scheduler, with diffusers' names: which noise levels a request passes through, and how one step is computed.
 *
 * Invariant: a scheduler is the mutable state of ONE request; two requests never share one. All fields are public so that
 * a request-scoped view can copy it. Knows nothing about models, prompts or images. Runs in the engine process.
 */
import type { Generator } from '../tensor/random-normal.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { CustomSchedule } from './retrieve-timesteps.ts'

/** Validated configuration in camelCase. Which other fields exist depends on the scheduler class. */
export interface SchedulerConfig {
  /** The number of noise levels that the model was trained with; timesteps run from this value down to 0. */
  readonly numTrainTimesteps: number
}

export interface SetTimestepsOptions {
  /** Accepted because diffusers has it, and ignored: schedules are computed on the CPU. Default none. */
  readonly device?: string
  /** Noise levels to use instead of the computed ones: decreasing, within (0, 1], before shifting. Default: computed. */
  readonly sigmas?: readonly number[]
  /** Shift of the schedule for this image size; required by schedulers with dynamic shifting, ignored by others. Default none. */
  readonly mu?: number
  /**
   * Timesteps to use instead of the computed ones, 0 to numTrainTimesteps, before shifting: `timesteps` comes out shifted.
   * Not together with sigmas. Default: computed.
   */
  readonly timesteps?: readonly number[]
}

export interface StepOptions {
  /**
   * Source of the noise that stochastic sampling adds; an array has one for each row. Required by schedulers that add noise,
   * unused by others. Default none.
   */
  readonly generator?: Generator | readonly Generator[]
}

export interface StepOutput {
  /** The sample one noise level lower; same dims as the sample, dtype of the model output. */
  readonly prevSample: Tensor
}

/** Two outputs of a model for each row of a sample, which guidance combines into one: uncond + scale × (cond − uncond). */
export interface GuidedOutput {
  /** Row by row, each with the dims of one row of the sample: (1, …). */
  readonly uncond: readonly Tensor[]
  readonly cond: readonly Tensor[]
  readonly scale: number
  /** The rows of the sample, with the same values, in the same memory as the outputs where possible. Default: the sample itself is read. */
  readonly sample?: readonly Tensor[]
}

export interface Scheduler {
  /** Read-only configuration; shared between clones. */
  readonly config: SchedulerConfig
  /** Which kinds of the caller's own schedule setTimesteps accepts in place of a number of steps. Default none. */
  readonly accepts?: readonly CustomSchedule[]
  /** Model calls per step; 1 for Euler. */
  readonly order: number
  /** The values given to the model, one per step; (steps,) float32. */
  timesteps: Float32Array
  /** Noise levels, one more than there are steps: the last one is the level at which the run ends; (steps + 1,) float32. */
  sigmas: Float32Array
  /** The number of steps in the current schedule; undefined before setTimesteps. */
  numInferenceSteps: number | undefined
  /** The index of the next step; undefined before the first one. */
  stepIndex: number | undefined
  /** The index of the first step, where it is not looked up from the timestep; undefined unless setBeginIndex was called. */
  beginIndex: number | undefined

  /** Computes the schedule of a request and forgets the progress of the last one. */
  setTimesteps(numInferenceSteps: number | undefined, options?: SetTimestepsOptions): void
  setBeginIndex(beginIndex?: number): void
  /** Takes one step towards the picture. Never changes the tensors it is given; increments stepIndex. */
  step(modelOutput: Tensor, timestep: number, sample: Tensor, options?: StepOptions): StepOutput
  /**
   * Guidance and `step` in one pass over the values, with the same result. Never changes `guided` and `sample`, and keeps no reference to them or
   * to its result. `spare`: an earlier result that is no longer read, which may be overwritten and returned. Returns undefined, having done
   * nothing, where there is no such pass; the caller then computes the guided output and calls `step`. Optional: a scheduler that keeps model
   * outputs, or needs them for anything else, must not offer it.
   */
  stepGuided?(guided: GuidedOutput, timestep: number, sample: Tensor, spare?: Tensor): StepOutput | undefined
  /** The sample with the noise that belongs to the given timesteps: one for all rows, or one per row. */
  scaleNoise(sample: Tensor, timesteps: readonly number[], noise: Tensor): Tensor
  /** A scheduler with the same config and state that shares nothing mutable with this one. Every run works on such a copy. */
  clone?(): Scheduler
  /** As `clone`, for a wrapper around a scheduler, whose copy is wrapped too. Used in preference to `clone`. */
  cloneForRequest?(): Scheduler
}
