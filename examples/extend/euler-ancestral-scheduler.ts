/**
 * A new sampler: Euler steps with fresh noise, called "Euler a" in other tools, for flow-matching models.
 *
 * To make it a part of Easel:
 * 1. packages/pipeline/src/schedulers/flow-match-euler-ancestral.ts: this class, its imports relative, and a test beside it.
 * 2. packages/pipeline/src/schedulers/scheduler-classes.ts: a line in `classes`, in place of `registerFlowMatchEulerAncestral`.
 * 3. packages/pipeline/src/index.ts: its export.
 * 4. services/gpu-worker/src/pictures/describe-image.ts: its name for image tools, in `samplers`.
 * A model then uses it by naming it in model_index.json and having its scheduler_config.json.
 *
 * A step may draw noise from the generator that it is given: with `stochasticSampling` in its configuration, the generator's state is handed
 * over together with the latents when a worker stops. A sampler that uses earlier predictions (DPM++ 2M) has more to hand over: see
 * docs/extend.md.
 */
import { FlowMatchEulerDiscreteScheduler, randnTensor, registerSchedulerClass, Tensor } from '@easel/pipeline'
import type { FlowMatchEulerDiscreteConfig, StepOptions, StepOutput } from '@easel/pipeline'

const className = 'FlowMatchEulerAncestralDiscreteScheduler'

export function registerFlowMatchEulerAncestral(): void {
  registerSchedulerClass(className, FlowMatchEulerAncestralDiscreteScheduler)
}

/**
 * The schedule is that of the Euler scheduler. A sample at level σ is (1 - σ) · picture + σ · noise. A step to σ' goes further down, to
 * σ″ = σ' · (1 - eta · (1 - σ' / σ)), and comes back up to σ' by mixing in fresh noise, a · sample + b · noise. The picture's share must then be
 * 1 - σ', so a = (1 - σ') / (1 - σ″); the noise's share must be σ', so a² · σ″² + b² = σ'².
 */
export class FlowMatchEulerAncestralDiscreteScheduler extends FlowMatchEulerDiscreteScheduler {
  /** How much of the noise that a step removes is replaced by fresh noise, 0 to 1: at 0 the steps are Euler's. Default 1. */
  readonly eta: number

  constructor(config: Partial<FlowMatchEulerDiscreteConfig> = {}, eta = 1) {
    super({ ...config, stochasticSampling: true })
    if (typeof eta !== 'number' || !(eta >= 0 && eta <= 1))
      throw new TypeError(`Expected eta to be a number from 0 to 1, got ${String(eta)}`)
    this.eta = eta
  }

  /** `json`: a scheduler_config.json: the fields of Euler's scheduler, and `eta`. */
  static override fromConfig(json: unknown): FlowMatchEulerAncestralDiscreteScheduler {
    const { eta, _class_name: name, ...fields } = json as { eta?: number; _class_name?: unknown }
    if (name !== undefined && name !== className)
      throw new TypeError(`Expected _class_name to be ${className}, got ${JSON.stringify(name)}`)
    return new FlowMatchEulerAncestralDiscreteScheduler(FlowMatchEulerDiscreteScheduler.fromConfig(fields).config, eta)
  }

  /** modelOutput, sample and result: (pictures, channels, height / 8, width / 8) float32. */
  override step(modelOutput: Tensor, timestep: number, sample: Tensor, { generator }: StepOptions = {}): StepOutput {
    if (generator === undefined) throw new TypeError('Expected options.generator, as every step draws noise, got undefined')
    const index = this.stepIndex ?? this.beginIndex ?? this.indexForTimestep(timestep)
    const [sigma, next] = this.sigmas.subarray(index, index + 2)
    if (sigma === undefined || next === undefined) throw new RangeError(`Expected a step of this schedule, got step ${index + 1}`)
    const down = next * (1 - this.eta * (1 - next / sigma))
    const keep = (1 - next) / (1 - down)
    const fresh = Math.sqrt(Math.max(0, next ** 2 - (keep * down) ** 2))
    // Drawn even if none is mixed in, so that the same seed draws the same noise at every eta.
    const noise = randnTensor(sample.dims, generator).data
    const values = sample.data.map((value, i) => keep * (value + (down - sigma) * modelOutput.data[i]!) + fresh * noise[i]!)
    this.stepIndex = index + 1
    return { prevSample: new Tensor(values, sample.dims) }
  }

  /** Every run works on a copy, so a copy has to be of this class. */
  override clone(): FlowMatchEulerAncestralDiscreteScheduler {
    return Object.assign(new FlowMatchEulerAncestralDiscreteScheduler(this.config, this.eta), super.clone())
  }
}
