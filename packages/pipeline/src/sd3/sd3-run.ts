/**
 * One call on its way from prompt to picture, in diffusers' phases (pipeline_stable_diffusion_3.py@58eb52c): encode, prepare latents, denoise,
 * decode. A call that starts from a picture differs in three places: its schedule begins later, its latents begin as that picture plus
 * noise, and with a mask everything that is not painted is restored after each step.
 *
 * Owns all state of the call: its copy of the scheduler with the call's schedule, its generators, its latents. Invariant: one object carries
 * out one call, once, and changes nothing that another run can see, so any number of runs may go on at the same time.
 * Knows nothing about jobs, queues or who else shares its steps. Runs in the engine process.
 */
import { randomInt } from 'node:crypto'
import { isFiniteTensor, NotFiniteError } from '../models/not-finite-error.ts'
import type { FlowMatchEulerDiscreteConfig } from '../schedulers/flow-match-config.ts'
import { copyScheduler } from '../schedulers/copy-scheduler.ts'
import { retrieveTimesteps } from '../schedulers/retrieve-timesteps.ts'
import type { Scheduler, StepOutput } from '../schedulers/scheduler.ts'
import { toSafeSeed } from '../tensor/image-seeds.ts'
import type { LoraLayers } from '../tensor/lora.ts'
import { Generator } from '../tensor/random-normal.ts'
import { commonDtype, concatRows, splitRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { decodeLatents } from './decode-latents.ts'
import { encodeTexts } from './encode-texts.ts'
import type { TextRows } from './encode-texts.ts'
import type { GenerateCall } from './generate-call.ts'
import { expectDims, GenerateParamsError } from './generate-params.ts'
import type { CallState, StepTensors } from './generate-params.ts'
import type { GenerateResult } from './generate-result.ts'
import { calculateShift } from './guidance.ts'
import { GuidancePlan } from './guidance-plan.ts'
import { memoryNeeds } from './memory-needs.ts'
import { encodePicture, keepUnpainted } from './picture-latents.ts'
import type { PictureLatents } from './picture-latents.ts'
import { predictNoise } from './predict-noise.ts'
import type { Prediction, StepInput } from './predict-noise.ts'
import { latentDimsOf, prepareLatents } from './prepare-latents.ts'
import type { ResidentModel } from './resident-model.ts'
import { resumeAt } from './resume-at.ts'

/** What is restored after every step. */
interface KeptPicture extends PictureLatents {
  /** (masks, 1, height / 8, width / 8), where zeros keep the picture. */
  readonly mask: Tensor
}

interface StartLatents {
  readonly latents: Tensor
  readonly kept: KeptPicture | undefined
}

export class Sd3Run implements CallState {
  readonly model: ResidentModel
  readonly call: GenerateCall
  /** One generator for all pictures, or one for each. */
  readonly generator: Generator | readonly Generator[]
  readonly scheduler: Scheduler
  /** The index of the run's first step in the scheduler's schedule: 0, except when starting from a picture. */
  readonly begin: number
  /** One for each step of the run, decreasing. */
  readonly timesteps: Float32Array
  readonly guidance: GuidancePlan
  _interrupt = false
  /** The device time that its steps have taken, in milliseconds. */
  deviceMs = 0
  /** The latents after the last step that has ended; undefined before the first step. */
  latents: Tensor | undefined
  /** What the call's LoRAs add to the model's layers. */
  lora: LoraLayers | undefined

  /** Throws for an impossible schedule. */
  constructor(model: ResidentModel, call: GenerateCall) {
    this.model = model
    this.call = call
    this.generator = call.generator ?? new Generator(call.seed ?? randomInt(2 ** 32))
    this.scheduler = copyScheduler(model.scheduler)
    const [schedule, steps] = this.setSchedule()
    this.begin = call.start === undefined ? 0 : firstStepOf(call.start.strength, steps) * this.scheduler.order
    this.timesteps = schedule.subarray(this.begin)
    this.guidance = new GuidancePlan(call, this.timesteps.length)
  }

  get numTimesteps(): number {
    return this.timesteps.length
  }

  get guidanceScale(): number {
    return this.call.guidanceScale
  }

  copyLatents(): Tensor {
    if (this.latents === undefined) throw new Error('Expected a call that has begun its steps, got one that has not')
    return this.latents.clone()
  }

  /** Waits until there is memory for the call, then carries it out. */
  async run(): Promise<GenerateResult> {
    const { call, model } = this
    call.signal?.throwIfAborted()
    const giveBack = await model.runtime.memory.admit(memoryNeeds(model, call, latentDimsOf(call, model)), call.signal)
    try {
      await model.files.assertNotWritten()
      return await this.generate()
    } finally {
      giveBack()
      // If a file was written to during the call, the picture may be a mixture of both versions.
      await model.files.assertNotWritten()
    }
  }

  async generate(): Promise<GenerateResult> {
    const { call, model } = this
    // 1. Texts and LoRAs
    const startedAt = performance.now()
    const loras = await model.loras?.load(call.loras)
    this.lora = loras?.layers
    const texts = await encodeTexts(model, call, this.guidance.isEverGuided)
    const encodedAt = performance.now()

    // 2. Latents
    const start = await this.startLatents(texts)

    // 3. Steps
    const denoised = await this.denoise(start, texts)
    const denoisedAt = performance.now()

    // 4. Pictures
    call.signal?.throwIfAborted()
    const images = call.outputType === 'latent' ? [] : await decodeLatents(model, denoised, call.signal)
    const first = this.generator instanceof Generator ? this.generator : (this.generator[0] as Generator)
    return {
      images,
      latents: call.outputType === 'latent' ? denoised : undefined,
      seed: toSafeSeed(first.initialSeed),
      loras: loras?.used ?? [],
      timings: {
        encodeMs: encodedAt - startedAt,
        denoiseMs: denoisedAt - encodedAt,
        decodeMs: performance.now() - denoisedAt,
        deviceMs: this.deviceMs,
      },
    }
  }

  /** Sets the run's scheduler to the call's schedule and returns its timesteps and the number of steps. */
  setSchedule(): [timesteps: Float32Array, steps: number] {
    const { call, scheduler, model } = this
    const config: Partial<FlowMatchEulerDiscreteConfig> = scheduler.config
    let { mu } = call
    if (config.useDynamicShifting === true && mu === undefined) {
      const { sizeMultiple } = model.limits
      const { baseImageSeqLen = 256, maxImageSeqLen = 4096, baseShift = 0.5, maxShift = 1.16 } = config
      const patches = (call.height / sizeMultiple) * (call.width / sizeMultiple)
      mu = calculateShift(patches, baseImageSeqLen, maxImageSeqLen, baseShift, maxShift)
    }
    const steps = call.sigmas === undefined ? call.numInferenceSteps : undefined
    const [timesteps, count] = retrieveTimesteps(scheduler, steps, { sigmas: call.sigmas, mu })
    return [timesteps, count ?? timesteps.length]
  }

  /** The latents for the first step of this run: (pictures, in_channels, height / 8, width / 8). */
  async startLatents({ embeds }: TextRows): Promise<StartLatents> {
    const { call, generator, model, scheduler } = this
    const { start, resume, signal } = call
    const dims = latentDimsOf(call, model)
    const dtype = commonDtype(embeds)
    let latents: Tensor | undefined
    let kept: KeptPicture | undefined
    // With a mask the picture is needed at every step, wherever the run begins, so it is prepared even when resuming.
    if (start !== undefined && (start.mask !== undefined || (resume === undefined && call.latents === undefined))) {
      const { mask, strength } = start
      const picture = await encodePicture(model, start, { generator, dims, dtype, latents: call.latents, signal })
      kept = mask && { mask, ...picture }
      scheduler.setBeginIndex(this.begin)
      // At full strength, or from given latents, diffusers paints as if there were no picture.
      const isNoise = mask !== undefined && (strength === 1 || call.latents !== undefined)
      latents = isNoise ? picture.noise : scheduler.scaleNoise(picture.imageLatents, [this.timesteps[0] as number], picture.noise)
    }
    if (resume !== undefined) {
      latents = resumeAt(resume, {
        generators: generator instanceof Generator ? [generator] : generator,
        drawsNoise: (scheduler.config as Partial<FlowMatchEulerDiscreteConfig>).stochasticSampling === true,
        steps: this.numTimesteps,
        latentDims: dims,
      })
    }
    return { latents: latents ?? prepareLatents(call.latents, dims, generator, dtype), kept }
  }

  /** The latents after the last step. */
  async denoise({ latents, kept }: StartLatents, texts: TextRows): Promise<Tensor> {
    const { call, guidance, model, scheduler, timesteps } = this
    const first = call.resume?.step ?? 0
    // Set explicitly, because a timestep does not identify its index when the caller's sigmas repeat. A run resumed after its last step has none.
    if (first < timesteps.length) scheduler.setBeginIndex(this.begin + first)
    const pictures = latents.dims[0] as number
    const showsLatents = call.callbackOnStepEnd !== undefined && call.callbackOnStepEndTensorInputs.includes('latents')
    // isPrivate: whether only this run holds the latents. spare: earlier latents of this run that are no longer read, so a step may overwrite them.
    let isPrivate = false
    let spare: Tensor | undefined
    this.latents = latents
    for (let step = first; step < timesteps.length; step++) {
      call.signal?.throwIfAborted()
      if (this._interrupt) break
      const timestep = timesteps[step] as number
      const input = { latents, timestep, texts, plan: guidance.at(step), lora: this.lora }
      const context = {
        arrivedAtMs: call.arrivedAtMs,
        remainingRows: guidance.remainingRows(step, pictures),
        signal: call.signal,
        owner: call.owner,
        onServed: (deviceMs: number) => {
          this.deviceMs += deviceMs
        },
      }
      const stepped = await predictNoise(model.runtime.batcher, call, input, context, (prediction) =>
        this.stepAlong(prediction, timestep, input.latents, spare),
      )
      spare = isPrivate && stepped.inOnePass ? latents : undefined
      latents = stepped.prevSample
      // Checked after the first step, where damaged weights show, and after the last, which makes the picture. In between it is not worth it.
      if (step === first || step === timesteps.length - 1) this.assertFinite(latents, step === first ? input : undefined)
      if (kept !== undefined) latents = keepUnpainted(latents, this.pictureAt(step + 1, kept), kept.mask)
      this.latents = latents
      if (call.callbackOnStepEnd !== undefined) ({ latents, texts } = await this.showStep(step, timestep, latents, texts))
      isPrivate = stepped.inOnePass && latents === stepped.prevSample && !showsLatents
      this.latents = latents
    }
    return latents
  }

  /** Throws unless the latents after a step are finite. `input`: what that step was made of, where the caller may have given it. */
  assertFinite(latents: Tensor, input: StepInput | undefined): void {
    if (isFiniteTensor(latents)) return
    const given = input === undefined ? [] : [input.latents, ...input.texts.embeds, ...input.texts.pooled]
    if (!given.every(isFiniteTensor)) throw new GenerateParamsError('latents or promptEmbeds', 'finite numbers', 'NaN or infinity')
    const loras = this.call.loras.map(({ id }) => id)
    const part = loras.length === 0 ? 'the transformer' : `the transformer with the LoRAs ${loras.join(', ')}`
    throw new NotFiniteError(part, this.model.transformer.session.path)
  }

  /** The latents one noise level lower, and whether guidance and step were one pass, after which the scheduler holds no reference to them. */
  stepAlong(
    { guided, noise }: Prediction,
    timestep: number,
    latents: Tensor,
    spare: Tensor | undefined,
  ): StepOutput & { inOnePass: boolean } {
    const { generator, scheduler } = this
    const step = guided && scheduler.stepGuided?.(guided, timestep, latents, spare)
    const { prevSample } = step ?? scheduler.step(noise(), timestep, latents, { generator })
    return { prevSample, inOnePass: step !== undefined }
  }

  /** The picture with the noise that it would have at the start of a step; after the last step without noise. */
  pictureAt(step: number, { imageLatents, noise }: KeptPicture): Tensor {
    const timestep = this.timesteps[step]
    return timestep === undefined ? imageLatents : this.scheduler.scaleNoise(imageLatents, [timestep], noise)
  }

  /** Calls the step callback and uses what it returns. */
  async showStep(step: number, timestep: number, latents: Tensor, texts: TextRows): Promise<{ latents: Tensor; texts: TextRows }> {
    const { callbackOnStepEnd, callbackOnStepEndTensorInputs } = this.call
    const show = {
      latents: () => latents,
      // The callback gets copies, because the rows may belong to the prompt cache.
      promptEmbeds: () => concatRows(texts.embeds),
      pooledPromptEmbeds: () => concatRows(texts.pooled),
    }
    const shown: StepTensors = Object.fromEntries(callbackOnStepEndTensorInputs.map((name) => [name, show[name]()]))
    const replaced = (await callbackOnStepEnd?.(this, step, timestep, shown)) ?? {}
    const { promptEmbeds, pooledPromptEmbeds } = replaced
    return {
      latents: replaced.latents === undefined ? latents : replacement('latents', replaced.latents, [latents]),
      texts: {
        embeds: promptEmbeds === undefined ? texts.embeds : splitRows(replacement('promptEmbeds', promptEmbeds, texts.embeds)),
        pooled:
          pooledPromptEmbeds === undefined ? texts.pooled : splitRows(replacement('pooledPromptEmbeds', pooledPromptEmbeds, texts.pooled)),
      },
    }
  }
}

/** How many steps of a schedule a strength skips; the last one always runs. */
function firstStepOf(strength: number, steps: number): number {
  return Math.min(Math.trunc(steps - Math.min(steps * strength, steps)), steps - 1)
}

/** A copy of what a step callback returned in place of the joined `parts`. */
function replacement(name: string, replaced: unknown, parts: readonly Tensor[]): Tensor {
  if (!(replaced instanceof Tensor)) throw new TypeError(`Expected ${name} of callbackOnStepEnd to be a Tensor, got ${typeof replaced}`)
  const [rows, ...tail] = (parts[0] as Tensor).dims as [number, ...number[]]
  expectDims(`${name} of callbackOnStepEnd`, replaced, [rows * parts.length, ...tail])
  return replaced.clone()
}
