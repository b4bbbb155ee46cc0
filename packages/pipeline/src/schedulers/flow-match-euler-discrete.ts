import type { Tensor } from '../tensor/tensor.ts'
import type { Scheduler, SchedulerConfig, SetTimestepsOptions, StepOptions, StepOutput } from './scheduler.ts'

export interface FlowMatchEulerDiscreteConfig extends SchedulerConfig {
  readonly shift: number
  readonly useDynamicShifting: boolean
  readonly baseShift: number
  readonly maxShift: number
  readonly baseImageSeqLen: number
  readonly maxImageSeqLen: number
  readonly invertSigmas: boolean
  readonly shiftTerminal: number | undefined
  readonly useKarrasSigmas: boolean
  readonly useExponentialSigmas: boolean
  readonly useBetaSigmas: boolean
  readonly timeShiftType: 'exponential' | 'linear'
  readonly stochasticSampling: boolean
}

export class FlowMatchEulerDiscreteScheduler implements Scheduler {
  readonly config: FlowMatchEulerDiscreteConfig
  readonly order = 1
  timesteps = new Float32Array()
  sigmas = new Float32Array()
  numInferenceSteps: number | undefined
  stepIndex: number | undefined
  beginIndex: number | undefined

  constructor(_config: Partial<FlowMatchEulerDiscreteConfig> = {}) {
    throw new Error('Not written yet')
  }

  /** `json` is the content of scheduler_config.json, snake_case. */
  static fromConfig(_json: unknown): FlowMatchEulerDiscreteScheduler {
    throw new Error('Not written yet')
  }

  setTimesteps(_numInferenceSteps: number | undefined, _options: SetTimestepsOptions = {}): void {
    throw new Error('Not written yet')
  }

  setBeginIndex(_beginIndex = 0): void {
    throw new Error('Not written yet')
  }

  indexForTimestep(_timestep: number, _scheduleTimesteps?: Float32Array): number {
    throw new Error('Not written yet')
  }

  step(_modelOutput: Tensor, _timestep: number, _sample: Tensor, _options: StepOptions = {}): StepOutput {
    throw new Error('Not written yet')
  }

  scaleNoise(_sample: Tensor, _timesteps: readonly number[], _noise: Tensor): Tensor {
    throw new Error('Not written yet')
  }

  clone(): FlowMatchEulerDiscreteScheduler {
    throw new Error('Not written yet')
  }
}
