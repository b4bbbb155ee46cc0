/**
 * Euler steps for flow-matching models (SD3, Flux), equal to diffusers' class of the same name to the last float32 bit.
 *
 * Owns the schedule of one request (sigmas, timesteps) and its position in it. Invariant: every operation is rounded to the
 * precision and in the order that numpy and torch use. Knows nothing about models, images or other requests.
 * Runs in the engine process.
 *
 * Source: diffusers src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py@58eb52c.
 */
import { addScaledFloat16, addScaledMixFloat16, roundToFloat16 } from '../tensor/float16.ts'
import { randnTensor } from '../tensor/random-normal.ts'
import { splitRows } from '../tensor/rows.ts'
import { equalDims, Tensor } from '../tensor/tensor.ts'
import type { TensorValues } from '../tensor/tensor.ts'
import { parseFlowMatchConfig, parseFlowMatchConfigJson } from './flow-match-config.ts'
import type { FlowMatchEulerDiscreteConfig } from './flow-match-config.ts'
import type { CustomSchedule } from './retrieve-timesteps.ts'
import type { GuidedOutput, Scheduler, SetTimestepsOptions, StepOptions, StepOutput } from './scheduler.ts'
import { betaSigmas, exponentialSigmas, karrasSigmas, linspace } from './sigma-spacing.ts'

const f32 = Math.fround
const exact = (x: number): number => x

type Rounding = (x: number) => number

export class FlowMatchEulerDiscreteScheduler implements Scheduler {
  readonly config: FlowMatchEulerDiscreteConfig
  readonly accepts: readonly CustomSchedule[] = ['sigmas', 'timesteps']
  readonly order = 1
  /** The shift that setTimesteps applies without dynamic shifting; initially config.shift. */
  shift: number
  /** The highest and lowest level of the training schedule, between which computed schedules run. */
  readonly sigmaMax: number
  readonly sigmaMin: number
  timesteps: Float32Array
  sigmas: Float32Array
  numInferenceSteps: number | undefined
  stepIndex: number | undefined
  beginIndex: number | undefined

  /** Until setTimesteps is called, the schedule is the training schedule with numTrainTimesteps levels. */
  constructor(config: Partial<FlowMatchEulerDiscreteConfig> = {}) {
    this.config = parseFlowMatchConfig(config)
    const { numTrainTimesteps, shift, useDynamicShifting } = this.config
    this.shift = shift
    this.sigmas = Float32Array.from({ length: numTrainTimesteps }, (_, i) => {
      const sigma = f32(f32(numTrainTimesteps - i) / numTrainTimesteps)
      return useDynamicShifting ? sigma : shiftSigma(sigma, shift, f32)
    })
    this.timesteps = this.sigmas.map((sigma) => sigma * numTrainTimesteps)
    this.sigmaMax = this.sigmas[0]!
    this.sigmaMin = this.sigmas.at(-1)!
  }

  /** `json`: the content of a scheduler_config.json. Options this class does not support are refused by name. */
  static fromConfig(json: unknown): FlowMatchEulerDiscreteScheduler {
    return new FlowMatchEulerDiscreteScheduler(parseFlowMatchConfigJson(json))
  }

  /** `numInferenceSteps` may be undefined when sigmas or timesteps are given, whose length then decides. */
  setTimesteps(numInferenceSteps: number | undefined, options: SetTimestepsOptions = {}): void {
    const { numTrainTimesteps, useDynamicShifting, shiftTerminal, invertSigmas, timeShiftType } = this.config
    const steps = countSteps(numInferenceSteps, options)
    const { mu } = options
    if (mu !== undefined && !Number.isFinite(mu)) throw new RangeError(`Expected mu to be a finite number, got ${mu}`)

    // 1) Levels to start from. Computed levels are doubles and given ones float32, up to step 5.
    const given = options.sigmas ?? options.timesteps
    const round: Rounding = given === undefined ? exact : f32
    let levels: number[]
    if (options.sigmas !== undefined) levels = options.sigmas.map(f32)
    else if (options.timesteps !== undefined) levels = options.timesteps.map((t) => f32(f32(t) / numTrainTimesteps))
    else
      levels = Array.from(
        linspace(this.sigmaMax * numTrainTimesteps, this.sigmaMin * numTrainTimesteps, steps),
        (t) => t / numTrainTimesteps,
      )

    // 2) Shift. For computed levels this is the second shift, because the constructor has shifted sigmaMin already.
    if (useDynamicShifting) {
      if (mu === undefined) throw new TypeError('Expected mu to be a number with useDynamicShifting, got undefined')
      const weight = timeShiftType === 'exponential' ? Math.exp(mu) : mu
      levels = levels.map((sigma) => timeShift(sigma, weight, round))
    } else {
      levels = levels.map((sigma) => shiftSigma(sigma, this.shift, round))
    }

    // 3) Stretch.
    if (shiftTerminal !== null && shiftTerminal > 0) levels = stretchToTerminal(levels, shiftTerminal, round)

    // 4) Respace the levels between the two ends.
    const spacing = this.spacing()
    if (spacing !== undefined) levels = Array.from(spacing(levels[0]!, levels.at(-1)!, steps))

    // 5) Convert to float32 and append the level at which the last step ends.
    let sigmas = Float32Array.from(levels)
    if (invertSigmas) sigmas = sigmas.map((sigma) => 1 - sigma)
    const notFinite = sigmas.findIndex((sigma) => !Number.isFinite(sigma))
    if (notFinite !== -1) throw new RangeError(`Expected a schedule of finite sigmas, got ${sigmas[notFinite]} at step ${notFinite}`)
    this.timesteps = sigmas.map((sigma) => sigma * numTrainTimesteps)
    this.sigmas = Float32Array.from([...sigmas, invertSigmas ? 1 : 0])
    this.numInferenceSteps = steps
    this.stepIndex = undefined
    this.beginIndex = undefined
  }

  /** Sets the index of the first step, for schedules entered in the middle or with a timestep that occurs twice. */
  setBeginIndex(beginIndex = 0): void {
    if (!Number.isInteger(beginIndex) || beginIndex < 0 || beginIndex >= this.timesteps.length)
      throw new RangeError(`Expected beginIndex from 0 to ${this.timesteps.length - 1}, got ${beginIndex}`)
    this.beginIndex = beginIndex
  }

  /** The index of a timestep in the schedule; the second index if it occurs more than once, so that no level is skipped. */
  indexForTimestep(timestep: number, scheduleTimesteps: Float32Array = this.timesteps): number {
    const wanted = f32(timestep)
    const first = scheduleTimesteps.indexOf(wanted)
    if (first === -1) throw new RangeError(`Expected timestep to be one of the schedule's, got ${timestep}`)
    const second = scheduleTimesteps.indexOf(wanted, first + 1)
    return second === -1 ? first : second
  }

  /**
   * modelOutput and sample: equal dims, each float32 or float16. The timestep decides the level in the first step only,
   * and only when no begin index was set.
   */
  step(modelOutput: Tensor, timestep: number, sample: Tensor, options: StepOptions = {}): StepOutput {
    assertSameDims('modelOutput', modelOutput, sample)
    const index = this.indexOfStep(timestep)
    const sigma = this.sigmas[index]!
    const sigmaNext = this.sigmas[index + 1]!
    const values = this.config.stochasticSampling
      ? stepWithNoise(modelOutput, sample, sigma, sigmaNext, options)
      : stepStraight(modelOutput, sample, f32(sigmaNext - sigma))
    this.stepIndex = index + 1
    return { prevSample: new Tensor(values, sample.dims, modelOutput.dtype) }
  }

  /** Only for float16, where guidance and a step cost most, and without fresh noise. A subclass that overrides `step` does not use this pass. */
  stepGuided(
    { uncond, cond, scale, sample: seen }: GuidedOutput,
    timestep: number,
    sample: Tensor,
    spare?: Tensor,
  ): StepOutput | undefined {
    const isHalf = [sample, ...uncond, ...cond].every(({ dtype }) => dtype === 'float16')
    if (!isHalf || this.config.stochasticSampling || Reflect.get(this, 'step') !== ownStep) return undefined
    const rows = splitRows(sample)
    for (const [name, outputs] of Object.entries({ uncond, cond, sample: seen ?? rows })) {
      if (outputs.length !== rows.length) throw new RangeError(`Expected ${name} of ${rows.length} rows, got ${outputs.length}`)
      for (const [index, output] of outputs.entries()) assertSameDims(name, output, rows[index]!)
    }
    const index = this.indexOfStep(timestep)
    const dt = roundToFloat16(f32(this.sigmas[index + 1]! - this.sigmas[index]!))
    const values = spare?.values instanceof Uint16Array && spare.numel === sample.numel ? spare.values : new Uint16Array(sample.numel)
    const rowNumel = sample.numel / rows.length
    for (const [row, { bits }] of (seen ?? rows).entries()) {
      const prevBits = values.subarray(row * rowNumel, (row + 1) * rowNumel)
      addScaledMixFloat16(bits, uncond[row]!.bits, cond[row]!.bits, f32(scale), dt, prevBits)
    }
    this.stepIndex = index + 1
    return { prevSample: new Tensor(values, sample.dims, 'float16') }
  }

  /** sigma * noise + (1 - sigma) * sample, each operation rounded to their dtype. sample and noise: equal dims and dtype. */
  scaleNoise(sample: Tensor, timesteps: readonly number[], noise: Tensor): Tensor {
    assertSameDims('noise', noise, sample)
    if (noise.dtype !== sample.dtype) throw new TypeError(`Expected noise of ${sample.dtype}, got ${noise.dtype}`)
    const rows = sample.dims[0] ?? 1
    if (timesteps.length !== 1 && timesteps.length !== rows)
      throw new RangeError(`Expected 1 timestep or one for each of ${rows} rows, got ${timesteps.length}`)
    const round = sample.dtype === 'float16' ? roundToFloat16 : f32
    const rowNumel = sample.numel / rows
    const levels = timesteps.map((timestep) => {
      const index = this.beginIndex === undefined ? this.indexForTimestep(timestep) : (this.stepIndex ?? this.beginIndex)
      return round(this.sigmas[index]!)
    })
    const values = sample.data.map((value, i) => {
      const sigma = levels.length === 1 ? levels[0]! : levels[Math.floor(i / rowNumel)]!
      return round(round(sigma * noise.data[i]!) + round(round(1 - sigma) * value))
    })
    return new Tensor(values, sample.dims, sample.dtype)
  }

  clone(): FlowMatchEulerDiscreteScheduler {
    const copy = new FlowMatchEulerDiscreteScheduler(this.config)
    copy.shift = this.shift
    copy.timesteps = this.timesteps.slice()
    copy.sigmas = this.sigmas.slice()
    copy.numInferenceSteps = this.numInferenceSteps
    copy.stepIndex = this.stepIndex
    copy.beginIndex = this.beginIndex
    return copy
  }

  /** The index of the step to take now. */
  private indexOfStep(timestep: number): number {
    const index = this.stepIndex ?? this.beginIndex ?? this.indexForTimestep(timestep)
    if (index + 1 < this.sigmas.length) return index
    throw new RangeError(`Expected at most ${this.sigmas.length - 1} steps in this schedule, got step ${index + 1}`)
  }

  private spacing(): ((sigmaMax: number, sigmaMin: number, steps: number) => Float64Array) | undefined {
    if (this.config.useKarrasSigmas) return karrasSigmas
    if (this.config.useExponentialSigmas) return exponentialSigmas
    if (this.config.useBetaSigmas) return betaSigmas
    return undefined
  }
}

const ownStep: unknown = Reflect.get(FlowMatchEulerDiscreteScheduler.prototype, 'step')

// In both kinds of step torch rounds a scalar to the model output's dtype before it multiplies; the sample side is always float32.

/** A step by `dt` in sigma: sample + dt × output, in the output's dtype. */
function stepStraight(output: Tensor, sample: Tensor, dt: number): TensorValues {
  if (output.dtype === 'float32') {
    const values = new Float32Array(sample.numel)
    const [samples, outputs] = [sample.data, output.data]
    for (let i = 0; i < values.length; i++) values[i] = f32(samples[i]! + f32(dt * outputs[i]!))
    return values
  }
  const scale = roundToFloat16(dt)
  if (sample.dtype === 'float16') return addScaledFloat16(sample.bits, output.bits, scale)
  return sample.data.map((value, i) => roundToFloat16(f32(value + roundToFloat16(f32(scale * output.data[i]!)))))
}

/** A step to the predicted picture, and back to the next level with fresh noise. */
function stepWithNoise(output: Tensor, sample: Tensor, sigma: number, sigmaNext: number, { generator }: StepOptions): Float32Array {
  if (generator === undefined) throw new TypeError('Expected options.generator with stochasticSampling, got undefined')
  const round = output.dtype === 'float16' ? roundToFloat16 : f32
  const noise = randnTensor(sample.dims, generator).data
  const scale = round(sigma)
  const keep = f32(1 - sigmaNext)
  return sample.data.map((value, i) => {
    const clean = f32(value - round(scale * output.data[i]!))
    return round(f32(f32(keep * clean) + f32(sigmaNext * noise[i]!)))
  })
}

/** The number of steps asked for. If it is given in several ways, they must agree. */
function countSteps(numInferenceSteps: number | undefined, { sigmas, timesteps }: SetTimestepsOptions): number {
  if (sigmas !== undefined && timesteps !== undefined) throw new TypeError('Expected sigmas or timesteps, got both')
  const steps = numInferenceSteps ?? sigmas?.length ?? timesteps?.length
  if (steps === undefined) throw new TypeError('Expected numInferenceSteps, sigmas or timesteps, got none of them')
  if (!Number.isInteger(steps) || steps < 1) throw new RangeError(`Expected numInferenceSteps to be an integer from 1 up, got ${steps}`)
  for (const [name, values] of Object.entries({ sigmas, timesteps })) {
    if (values === undefined) continue
    if (values.length !== steps) throw new RangeError(`Expected ${name} of ${steps} values, got ${values.length}`)
    for (const value of values) if (!Number.isFinite(value)) throw new RangeError(`Expected ${name} of finite numbers, got ${value}`)
  }
  return steps
}

// In the next three functions, Python scalars are rounded to the array's precision before they are combined with an array.

function shiftSigma(sigma: number, shift: number, round: Rounding): number {
  return round(round(round(shift) * sigma) / round(1 + round(round(shift - 1) * sigma)))
}

function timeShift(sigma: number, weight: number, round: Rounding): number {
  return round(round(weight) / round(round(weight) + round(round(1 / sigma) - 1)))
}

function stretchToTerminal(levels: readonly number[], terminal: number, round: Rounding): number[] {
  const distances = levels.map((sigma) => round(1 - sigma))
  const scale = round(distances.at(-1)! / round(1 - terminal))
  return distances.map((distance) => round(1 - round(distance / scale)))
}

function assertSameDims(name: string, tensor: Tensor, sample: Tensor): void {
  if (equalDims(tensor.dims, sample.dims)) return
  throw new RangeError(`Expected ${name} of dims [${sample.dims.join(', ')}], got [${tensor.dims.join(', ')}]`)
}
