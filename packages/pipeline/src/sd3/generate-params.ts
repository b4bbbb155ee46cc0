/**
 * The parameters of a call, with diffusers' names in camelCase, and the check they must pass before any work is done.
 *
 * Invariant: as far as parameters decide, a call that passes `checkParams` can run to the end; every refusal names the parameter, what was
 * expected and what was given. Knows nothing about how a picture is made.
 */
import { Generator } from '../tensor/random-normal.ts'
import type { RowOwner } from '../runtime/step-call.ts'
import type { GeneratorState } from '../tensor/random-normal.ts'
import { equalDims, Tensor } from '../tensor/tensor.ts'
import { expectedLoras } from './lora-choices.ts'

/** The tensors that a step callback may read and replace. With guidance, the negative rows come first in the embeddings. */
export interface StepTensors {
  /** (rows, channels, height / 8, width / 8) after the step */
  readonly latents?: Tensor
  /** (rows or 2 × rows, tokens, width) */
  readonly promptEmbeds?: Tensor
  /** (rows or 2 × rows, width) */
  readonly pooledPromptEmbeds?: Tensor
}
const STEP_TENSORS = ['latents', 'promptEmbeds', 'pooledPromptEmbeds'] as const

/** What a step callback sees of the call. */
export interface CallState {
  readonly numTimesteps: number
  readonly guidanceScale: number
  /** Set to true to skip the remaining steps; the picture is then decoded as it is. */
  _interrupt: boolean
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
  readonly callbackOnStepEndTensorInputs?: readonly (typeof STEP_TENSORS)[number][] | undefined
  /** Stops the call before its next step; the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Whose call it is, for sharing the device between owners. Default: one owner for all calls that do not say. */
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

const REFUSED: Readonly<Record<string, string>> = {
  ipAdapterImage: 'absent, as image prompts are not supported',
  ipAdapterImageEmbeds: 'absent, as image prompts are not supported',
  jointAttentionKwargs: 'absent, as a graph has no attention processors to pass them to',
}

const PROMPTS = ['prompt', 'prompt2', 'prompt3', 'negativePrompt', 'negativePrompt2', 'negativePrompt3'] as const
const EMBEDS = ['promptEmbeds', 'pooledPromptEmbeds', 'negativePromptEmbeds', 'negativePooledPromptEmbeds'] as const
/** A record, so that the compiler reports a parameter that is missing here. */
const OTHERS: Record<Exclude<keyof GenerateParams, (typeof PROMPTS | typeof EMBEDS)[number]>, true> = {
  height: true,
  width: true,
  numInferenceSteps: true,
  sigmas: true,
  guidanceScale: true,
  guidanceInterval: true,
  numImagesPerPrompt: true,
  seed: true,
  generator: true,
  latents: true,
  clipSkip: true,
  maxSequenceLength: true,
  mu: true,
  outputType: true,
  callbackOnStepEnd: true,
  callbackOnStepEndTensorInputs: true,
  signal: true,
  owner: true,
  resume: true,
  skipGuidanceLayers: true,
  skipLayerGuidanceScale: true,
  skipLayerGuidanceStart: true,
  skipLayerGuidanceStop: true,
  loras: true,
}
const KNOWN = new Set<string>([...PROMPTS, ...EMBEDS, ...Object.keys(OTHERS)])

/** Throws GenerateParamsError for the first parameter that is unknown, refused or out of range. */
export function checkParams(params: GenerateParams, limits: ParamLimits): void {
  if (typeof params !== 'object' || (params as unknown) === null)
    throw new GenerateParamsError('params', 'an object with a prompt', show(params))
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) continue
    if (REFUSED[name] !== undefined) throw new GenerateParamsError(name, REFUSED[name], show(value))
    if (!KNOWN.has(name)) throw new GenerateParamsError(name, 'a known parameter', 'one this pipeline does not have')
  }
  checkPrompts(params)
  for (const side of ['height', 'width'] as const) {
    checkInteger(side, params[side], limits.sizeMultiple, limits.maxSide)
    const rest = (params[side] ?? 0) % limits.sizeMultiple
    if (rest !== 0) throw new GenerateParamsError(side, `divisible by ${limits.sizeMultiple}`, show(params[side]))
  }
  checkInteger('numInferenceSteps', params.numInferenceSteps, 1)
  checkInteger('numImagesPerPrompt', params.numImagesPerPrompt, 1)
  checkInteger('maxSequenceLength', params.maxSequenceLength, 1, limits.maxSequenceLength)
  checkInteger('clipSkip', params.clipSkip, 0, limits.maxClipSkip)
  checkInteger('seed', params.seed, -Number.MAX_SAFE_INTEGER)
  for (const name of ['guidanceScale', 'mu', 'skipLayerGuidanceScale', 'skipLayerGuidanceStart', 'skipLayerGuidanceStop'] as const) {
    const value = params[name]
    if (value !== undefined && !Number.isFinite(value)) throw new GenerateParamsError(name, 'a finite number', show(value))
  }
  const { guidanceInterval: interval } = params
  if (interval !== undefined && !isInterval(interval))
    throw new GenerateParamsError('guidanceInterval', '[start, stop] with 0 <= start <= stop <= 1', show(interval))
  const { sigmas, outputType, generator, signal, latents, callbackOnStepEndTensorInputs: inputs } = params
  if (sigmas !== undefined && !(Array.isArray(sigmas) && sigmas.length > 0 && sigmas.every((sigma) => Number.isFinite(sigma))))
    throw new GenerateParamsError('sigmas', 'a list of at least one finite number', show(sigmas))
  if (outputType !== undefined && outputType !== 'rgb8' && outputType !== 'latent')
    throw new GenerateParamsError('outputType', "'rgb8' or 'latent'", show(outputType))
  if (generator !== undefined) {
    if (params.seed !== undefined) throw new GenerateParamsError('seed', 'absent when generator is given', show(params.seed))
    const all = Array.isArray(generator) ? (generator as unknown[]) : [generator]
    if (all.length === 0 || !all.every((one) => one instanceof Generator))
      throw new GenerateParamsError('generator', 'a Generator or a list of them', show(generator))
  }
  if (latents !== undefined && !(latents instanceof Tensor)) throw new GenerateParamsError('latents', 'a Tensor', show(latents))
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new GenerateParamsError('signal', 'an AbortSignal', show(signal))
  const callback: unknown = params.callbackOnStepEnd
  if (callback !== undefined && typeof callback !== 'function')
    throw new GenerateParamsError('callbackOnStepEnd', 'a function', show(callback))
  const stray = inputs?.find((name) => !STEP_TENSORS.includes(name))
  if (stray !== undefined) throw new GenerateParamsError('callbackOnStepEndTensorInputs', `among ${STEP_TENSORS.join(', ')}`, show(stray))
  checkSkipLayers(params.skipGuidanceLayers, limits.layers)
  const choices = expectedLoras(params.loras, limits.takesLoras)
  if (choices !== undefined) throw new GenerateParamsError('loras', choices, show(params.loras))
}

function isInterval(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false
  const [start, stop] = value as unknown[]
  return typeof start === 'number' && typeof stop === 'number' && start >= 0 && start <= stop && stop <= 1
}

function checkPrompts(params: GenerateParams): void {
  for (const name of PROMPTS) {
    const value: unknown = params[name]
    const isText = typeof value === 'string' || (Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string'))
    if (value !== undefined && !isText) throw new GenerateParamsError(name, 'a string or a list of strings', show(value))
    const embeds = name.startsWith('negative') ? 'negativePromptEmbeds' : 'promptEmbeds'
    if (value !== undefined && params[embeds] !== undefined)
      throw new GenerateParamsError(name, `absent when ${embeds} is given`, show(value))
  }
  for (const name of EMBEDS) {
    const value: unknown = params[name]
    if (value !== undefined && !(value instanceof Tensor)) throw new GenerateParamsError(name, 'a Tensor', show(value))
  }
  if (params.prompt === undefined && params.promptEmbeds === undefined)
    throw new GenerateParamsError('prompt', 'given, or promptEmbeds', 'neither')
  for (const [embeds, pooled] of [
    ['promptEmbeds', 'pooledPromptEmbeds'],
    ['negativePromptEmbeds', 'negativePooledPromptEmbeds'],
  ] as const) {
    if ((params[embeds] === undefined) !== (params[pooled] === undefined))
      throw new GenerateParamsError(
        params[embeds] === undefined ? embeds : pooled,
        `given together with ${params[embeds] === undefined ? pooled : embeds}`,
        'nothing',
      )
  }
  const [positive, negative] = [params.promptEmbeds, params.negativePromptEmbeds]
  if (positive !== undefined && negative !== undefined && !equalDims(positive.dims, negative.dims))
    throw new GenerateParamsError(
      'negativePromptEmbeds',
      `of the dims of promptEmbeds, [${positive.dims.join(', ')}]`,
      `[${negative.dims.join(', ')}]`,
    )
}

function checkInteger(name: string, value: number | undefined, min: number, max: number = Number.MAX_SAFE_INTEGER): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= min && value <= max)) return
  throw new GenerateParamsError(name, `an integer from ${min} to ${max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : max}`, show(value))
}

function checkSkipLayers(skipped: readonly number[] | undefined, layers: number | undefined): void {
  if (skipped === undefined) return
  if (layers === undefined)
    throw new GenerateParamsError('skipGuidanceLayers', 'absent, as the transformer takes no layer mask', show(skipped))
  const isLayer = (layer: number): boolean => Number.isInteger(layer) && layer >= 0 && layer < layers
  if (!Array.isArray(skipped) || !skipped.every(isLayer))
    throw new GenerateParamsError('skipGuidanceLayers', `a list of layers from 0 to ${layers - 1}`, show(skipped))
}

export function show(value: unknown): string {
  if (typeof value === 'function' || typeof value === 'symbol') return typeof value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value.constructor?.name ?? 'an object'
  const text = JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner))
  return text === undefined ? 'nothing' : text.length > 80 ? `${text.slice(0, 80)}…` : text
}
