/**
 * The check that the parameters of a call must pass before any work is done.
 *
 * Invariant: as far as parameters decide, a call that passes can run to the end; every refusal names the parameter, what was expected and what
 * was given. Knows nothing about how a picture is made.
 */
import { Generator } from '../tensor/random-normal.ts'
import { equalDims, Tensor } from '../tensor/tensor.ts'
import { GenerateParamsError, stepTensors } from './generate-params.ts'
import type { GenerateParams, ParamLimits } from './generate-params.ts'
import { expectedLoras } from './lora-choices.ts'

const refusedParams: Readonly<Record<string, string>> = {
  ipAdapterImage: 'absent, as image prompts are not supported',
  ipAdapterImageEmbeds: 'absent, as image prompts are not supported',
  jointAttentionKwargs: 'absent, as a graph has no attention processors to pass them to',
}

const promptParams = ['prompt', 'prompt2', 'prompt3', 'negativePrompt', 'negativePrompt2', 'negativePrompt3'] as const
const embedsParams = ['promptEmbeds', 'pooledPromptEmbeds', 'negativePromptEmbeds', 'negativePooledPromptEmbeds'] as const
/** A record, so that the compiler reports a parameter that is missing here. */
const otherParams: Record<Exclude<keyof GenerateParams, (typeof promptParams | typeof embedsParams)[number]>, true> = {
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
const knownParams = new Set<string>([...promptParams, ...embedsParams, ...Object.keys(otherParams)])

/** Throws GenerateParamsError for the first parameter that is unknown, refused or out of range. */
export function checkParams(params: GenerateParams, limits: ParamLimits): void {
  if (typeof params !== 'object' || (params as unknown) === null)
    throw new GenerateParamsError('params', 'an object with a prompt', show(params))
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) continue
    if (refusedParams[name] !== undefined) throw new GenerateParamsError(name, refusedParams[name], show(value))
    if (!knownParams.has(name)) throw new GenerateParamsError(name, 'a known parameter', 'one this pipeline does not have')
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
  const stray = inputs?.find((name) => !stepTensors.includes(name))
  if (stray !== undefined) throw new GenerateParamsError('callbackOnStepEndTensorInputs', `among ${stepTensors.join(', ')}`, show(stray))
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
  for (const name of promptParams) {
    const value: unknown = params[name]
    const isText = typeof value === 'string' || (Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string'))
    if (value !== undefined && !isText) throw new GenerateParamsError(name, 'a string or a list of strings', show(value))
    const embeds = name.startsWith('negative') ? 'negativePromptEmbeds' : 'promptEmbeds'
    if (value !== undefined && params[embeds] !== undefined)
      throw new GenerateParamsError(name, `absent when ${embeds} is given`, show(value))
  }
  for (const name of embedsParams) {
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
