/**
 * The check that the parameters of a call must pass before any work is done.
 *
 * Invariant: a call that passes does not fail later because of its parameters; every refusal names the parameter, what was expected and what
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

interface Context {
  readonly params: GenerateParams
  readonly limits: ParamLimits
}

/** Returns what was expected in place of a value that is given; undefined when nothing is wrong with it. */
type Check = (value: unknown, context: Context) => string | undefined

/** A check that looks at the value alone. */
function expect(isRight: (value: unknown) => boolean, expected: string): Check {
  return (value) => (isRight(value) ? undefined : expected)
}

function integer(min: number, max: (limits: ParamLimits) => number = () => Number.MAX_SAFE_INTEGER): Check {
  return (value, { limits }) => {
    const most = max(limits)
    if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= most) return undefined
    return `an integer from ${min} to ${most === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : most}`
  }
}

const anything: Check = () => undefined
const finite = expect(Number.isFinite, 'a finite number')
const aTensor = expect((value) => value instanceof Tensor, 'a Tensor')

/** `embeds`: the parameter that replaces the text. */
const textOr =
  (embeds: 'promptEmbeds' | 'negativePromptEmbeds'): Check =>
  (value, { params }) => {
    if (typeof value !== 'string' && !isListOf(value, (text) => typeof text === 'string')) return 'a string or a list of strings'
    return params[embeds] === undefined ? undefined : `absent when ${embeds} is given`
  }

const side: Check = (value, context) => {
  const { maxSide, sizeMultiple } = context.limits
  const expected = integer(sizeMultiple, () => maxSide)(value, context)
  return expected ?? ((value as number) % sizeMultiple === 0 ? undefined : `divisible by ${sizeMultiple}`)
}

/** The check of every parameter. Where several are wrong, the first one in this order is reported. */
const checks: { readonly [Name in keyof Required<GenerateParams>]: Check } = {
  prompt: textOr('promptEmbeds'),
  prompt2: textOr('promptEmbeds'),
  prompt3: textOr('promptEmbeds'),
  negativePrompt: textOr('negativePromptEmbeds'),
  negativePrompt2: textOr('negativePromptEmbeds'),
  negativePrompt3: textOr('negativePromptEmbeds'),
  promptEmbeds: aTensor,
  pooledPromptEmbeds: aTensor,
  negativePromptEmbeds: aTensor,
  negativePooledPromptEmbeds: aTensor,
  height: side,
  width: side,
  numInferenceSteps: integer(1),
  numImagesPerPrompt: integer(1),
  maxSequenceLength: integer(1, (limits) => limits.maxSequenceLength),
  clipSkip: integer(0, (limits) => limits.maxClipSkip),
  seed: (value, context) =>
    integer(-Number.MAX_SAFE_INTEGER)(value, context) ??
    (context.params.generator === undefined ? undefined : 'absent when generator is given'),
  generator: expect(
    (value) => value instanceof Generator || isListOf(value, (one) => one instanceof Generator),
    'a Generator or a list of them',
  ),
  guidanceScale: finite,
  guidanceInterval: expect(isInterval, '[start, stop] with 0 <= start <= stop <= 1'),
  skipGuidanceLayers: (value, { limits: { layers } }) => {
    if (layers === undefined) return 'absent, as the transformer takes no layer mask'
    const isLayer = (layer: unknown): boolean => Number.isInteger(layer) && (layer as number) >= 0 && (layer as number) < layers
    return Array.isArray(value) && value.every(isLayer) ? undefined : `a list of layers from 0 to ${layers - 1}`
  },
  skipLayerGuidanceScale: finite,
  skipLayerGuidanceStart: finite,
  skipLayerGuidanceStop: finite,
  sigmas: expect((value) => isListOf(value, Number.isFinite), 'a list of at least one finite number'),
  mu: finite,
  latents: aTensor,
  outputType: expect((value) => value === 'rgb8' || value === 'latent', "'rgb8' or 'latent'"),
  signal: expect((value) => value instanceof AbortSignal, 'an AbortSignal'),
  callbackOnStepEnd: expect((value) => typeof value === 'function', 'a function'),
  callbackOnStepEndTensorInputs: expect(
    (value) => Array.isArray(value) && value.every((name) => stepTensors.includes(name)),
    `a list of names among ${stepTensors.join(', ')}`,
  ),
  owner: anything,
  // Checked against the steps of the call, in `resume-at.ts`.
  resume: anything,
  loras: (value, { limits }) => expectedLoras(value, limits.takesLoras),
}

/** Throws GenerateParamsError for the first parameter that is unknown, refused or out of range. */
export function checkParams(params: GenerateParams, limits: ParamLimits): void {
  if (typeof params !== 'object' || (params as unknown) === null)
    throw new GenerateParamsError('params', 'an object with a prompt', show(params))
  const given: Readonly<Record<string, unknown>> = { ...params }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (refusedParams[name] !== undefined) throw new GenerateParamsError(name, refusedParams[name], show(value))
    if (!Object.hasOwn(checks, name)) throw new GenerateParamsError(name, 'a known parameter', 'one this pipeline does not have')
  }
  for (const [name, check] of Object.entries(checks)) {
    const expected = given[name] === undefined ? undefined : check(given[name], { params, limits })
    if (expected !== undefined) throw new GenerateParamsError(name, expected, show(given[name]))
  }
  checkPrompts(params)
}

/** Whether the prompts are all there, and their embeddings fit together. */
function checkPrompts(params: GenerateParams): void {
  if (params.prompt === undefined && params.promptEmbeds === undefined)
    throw new GenerateParamsError('prompt', 'given, or promptEmbeds', 'neither')
  for (const [embeds, pooled] of [
    ['promptEmbeds', 'pooledPromptEmbeds'],
    ['negativePromptEmbeds', 'negativePooledPromptEmbeds'],
  ] as const) {
    const [isGiven, isPooledGiven] = [params[embeds] !== undefined, params[pooled] !== undefined]
    if (isGiven && !isPooledGiven) throw new GenerateParamsError(pooled, `given together with ${embeds}`, 'nothing')
    if (isPooledGiven && !isGiven) throw new GenerateParamsError(embeds, `given together with ${pooled}`, 'nothing')
  }
  const [positive, negative] = [params.promptEmbeds, params.negativePromptEmbeds]
  if (positive !== undefined && negative !== undefined && !equalDims(positive.dims, negative.dims))
    throw new GenerateParamsError(
      'negativePromptEmbeds',
      `of the dims of promptEmbeds, [${positive.dims.join(', ')}]`,
      `[${negative.dims.join(', ')}]`,
    )
}

function isListOf(value: unknown, isRight: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length > 0 && value.every((one) => isRight(one))
}

function isInterval(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false
  const [start, stop] = value as unknown[]
  return typeof start === 'number' && typeof stop === 'number' && start >= 0 && start <= stop && stop <= 1
}

export function show(value: unknown): string {
  if (typeof value === 'function' || typeof value === 'symbol') return typeof value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value.constructor?.name ?? 'an object'
  const text = JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner))
  return text === undefined ? 'nothing' : text.length > 80 ? `${text.slice(0, 80)}…` : text
}
