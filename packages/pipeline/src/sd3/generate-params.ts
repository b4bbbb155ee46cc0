/**
 * The parameters of a call, with diffusers' names in camelCase, and the error that refuses one. `check-params.ts` checks them. Knows nothing
 * about how a picture is made.
 */
import type { RowOwner } from '../runtime/step-call.ts'
import type { Generator, GeneratorState } from '../tensor/random-normal.ts'
import { equalDims } from '../tensor/tensor.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** The tensors that a step callback may read and replace. With guidance, the negative rows come first in the embeddings. */
export interface StepTensors {
  /** (rows, channels, height / 8, width / 8) after the step */
  readonly latents?: Tensor
  /** (rows or 2 × rows, tokens, width) */
  readonly promptEmbeds?: Tensor
  /** (rows or 2 × rows, width) */
  readonly pooledPromptEmbeds?: Tensor
}
export const stepTensors = ['latents', 'promptEmbeds', 'pooledPromptEmbeds'] as const

/** What a step callback sees of the call. */
export interface CallState {
  readonly numTimesteps: number
  readonly guidanceScale: number
  /** Set to true to skip the remaining steps; the picture is then decoded as it is. */
  _interrupt: boolean
  /**
   * A copy of the latents after the last step that has ended, (rows, channels, height / 8, width / 8), at any time from the first step on. A
   * callback that needs the latents only now and then should call this instead of having them among its inputs: the steps of a float16 model can
   * then reuse the same memory.
   */
  copyLatents(): Tensor
}

export type CallbackOnStepEnd = (
  call: CallState,
  step: number,
  timestep: number,
  tensors: StepTensors,
) => StepTensors | undefined | void | Promise<StepTensors | undefined | void>

/** The point at which an earlier run of the same call stopped. */
export interface ResumePoint {
  /** How many steps were done, from 0 to the number of steps. */
  readonly step: number
  /** The latents after these steps. */
  readonly latents: Tensor
  /** The state of each generator after these steps; needed only by schedulers that draw noise at every step. */
  readonly generatorState?: GeneratorState | readonly GeneratorState[]
}

export interface GenerateParams {
  /** Text for the first encoder, one or many; may be empty. Required unless promptEmbeds is given. */
  readonly prompt?: string | readonly string[] | undefined
  /** Text for the second CLIP encoder. Default, also for '': prompt. */
  readonly prompt2?: string | readonly string[] | undefined
  /** Text for T5. Default, also for '': prompt. */
  readonly prompt3?: string | readonly string[] | undefined
  /** What to steer away from: one text for all prompts, or one for each. Used only with guidanceScale above 1. Default ''. */
  readonly negativePrompt?: string | readonly string[] | undefined
  /** Default, also for '': negativePrompt. */
  readonly negativePrompt2?: string | readonly string[] | undefined
  /** Default, also for '': negativePrompt. */
  readonly negativePrompt3?: string | readonly string[] | undefined
  /** Pixels, a multiple of VAE scale × patch (16). Default: the model's, sample_size × 8. */
  readonly height?: number | undefined
  /** Pixels, with the same rules as height. */
  readonly width?: number | undefined
  /** Steps, from 1. Ignored when sigmas is given. Default: the model's, else 28. */
  readonly numInferenceSteps?: number | undefined
  /** The noise levels of the steps, decreasing, in (0, 1]. Default: the scheduler's. */
  readonly sigmas?: readonly number[] | undefined
  /** Weight of the prompt against the negative prompt; up to 1 means off. Default: the model's, else 7. */
  readonly guidanceScale?: number | undefined
  /**
   * The part of the run in which guidance is on, [start, stop] with 0 ≤ start ≤ stop ≤ 1: step i of n, counted from 0, is guided when
   * start ≤ i / n < stop. The other steps run only the prompt's rows, without the negative ones. Default [0, 1], the whole run.
   */
  readonly guidanceInterval?: readonly [start: number, stop: number] | undefined
  /** Pictures per prompt, from 1. Default 1. */
  readonly numImagesPerPrompt?: number | undefined
  /** Safe integer; only the low 32 bits decide. Not together with generator. Default: drawn from 0 to 2^32 − 1. */
  readonly seed?: number | undefined
  /** One generator for all rows, or one per row. Not together with seed. Default: made from seed. */
  readonly generator?: Generator | readonly Generator[] | undefined
  /** Noise to start from, (rows, channels, height / 8, width / 8). Default: drawn from the generator. */
  readonly latents?: Tensor | undefined
  /** Replaces prompt: (prompts, tokens, width). Requires pooledPromptEmbeds. */
  readonly promptEmbeds?: Tensor | undefined
  /** Replaces negativePrompt: the same dims as promptEmbeds. Requires negativePooledPromptEmbeds. */
  readonly negativePromptEmbeds?: Tensor | undefined
  /** (prompts, width) */
  readonly pooledPromptEmbeds?: Tensor | undefined
  /** (prompts, width) */
  readonly negativePooledPromptEmbeds?: Tensor | undefined
  /** How many CLIP layers to skip at the end, from 0; none are skipped for the negative prompt. Default 0. */
  readonly clipSkip?: number | undefined
  /** The length of a T5 prompt in tokens, 1 to 512. Default: the model's, else 256. */
  readonly maxSequenceLength?: number | undefined
  /** The shift of a schedule with dynamic shifting; other schedules ignore it. Default: from the image size. */
  readonly mu?: number | undefined
  /** 'rgb8': pictures; 'latent': the latents before the VAE. Default 'rgb8'. */
  readonly outputType?: 'rgb8' | 'latent' | undefined
  /** Called after every step with the tensors named below; the tensors that it returns replace them. */
  readonly callbackOnStepEnd?: CallbackOnStepEnd | undefined
  /** Default ['latents']. */
  readonly callbackOnStepEndTensorInputs?: readonly (typeof stepTensors)[number][] | undefined
  /** Stops the call before its next step; the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** The owner of the call; the device is shared among owners. Default: all calls without one belong to one owner. */
  readonly owner?: RowOwner | undefined
  /** Continues from a stored step; the result has the same bytes as that of an uninterrupted call. */
  readonly resume?: ResumePoint | undefined
  /** The layers to skip in a third prediction, counted from 0; only for a transformer that takes a layer mask. Default none. */
  readonly skipGuidanceLayers?: readonly number[] | undefined
  /** The weight of that prediction. Default 2.8. */
  readonly skipLayerGuidanceScale?: number | undefined
  /** The fraction of the steps after which it begins, 0 to 1, excluding a step exactly at the bound. Default 0.01. */
  readonly skipLayerGuidanceStart?: number | undefined
  /** The fraction of the steps before which it ends, 0 to 1, excluding a step exactly at the bound. Default 0.2. */
  readonly skipLayerGuidanceStop?: number | undefined
  /** LoRAs from the LoRA folder to add to the transformer: at most 4, each once; `scale` −4 to 4, default 1. Default none. */
  readonly loras?: readonly { readonly id: string; readonly scale?: number | undefined }[] | undefined
}

/** What the parameters are checked against. */
export interface ParamLimits {
  /** Sides must be multiples of this many pixels. */
  readonly sizeMultiple: number
  /** The longest side allowed, in pixels. */
  readonly maxSide: number
  readonly maxSequenceLength: number
  readonly maxClipSkip: number
  /** The number of transformer layers that a row can skip; undefined where the graph takes no layer mask. */
  readonly layers: number | undefined
  /** Whether LoRAs can be added. */
  readonly takesLoras: boolean
}

/** A parameter that cannot be used. */
export class GenerateParamsError extends TypeError {
  override readonly name = 'GenerateParamsError'
  readonly param: string

  constructor(param: string, expected: string, got: string) {
    super(`Expected ${param} to be ${expected}, got ${got}`)
    this.param = param
  }
}

export function expectDims(name: string, tensor: Tensor, dims: readonly number[]): void {
  if (equalDims(tensor.dims, dims)) return
  throw new GenerateParamsError(name, `of dims [${dims.join(', ')}]`, `[${tensor.dims.join(', ')}]`)
}
