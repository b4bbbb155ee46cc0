/**
 * A call with everything decided: checked parameters, the model's defaults filled in, prompts as lists of equal length.
 *
 * Invariant: pure except for the time of arrival; the result needs no further defaults. Knows nothing about tensor contents or graphs.
 */
import type { Rgb8Image } from '../tensor/image-processor.ts'
import { rowsOf } from '../tensor/rows.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkParams } from './check-params.ts'
import { GenerateParamsError } from './generate-params.ts'
import type { GenerateParams, ParamLimits } from './generate-params.ts'
import type { LoraChoice } from './lora-choices.ts'
import type { PromptEmbeddings, PromptTexts } from './embed-prompts.ts'

/** The model's own values for parameters that a call does not give. */
export interface GenerateDefaults {
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
  readonly numInferenceSteps: number
  readonly guidanceScale: number
  /** T5 tokens. */
  readonly maxSequenceLength: number
}

/** The parameters that always have a value in a call. */
type Decided =
  | keyof GenerateDefaults
  | 'numImagesPerPrompt'
  | 'guidanceInterval'
  | 'clipSkip'
  | 'outputType'
  | 'callbackOnStepEndTensorInputs'

/** The parameters that a call holds in another form. */
type Replaced =
  | `${'prompt' | 'negativePrompt'}${'' | '2' | '3' | 'Embeds'}`
  | 'pooledPromptEmbeds'
  | 'negativePooledPromptEmbeds'
  | 'skipGuidanceLayers'
  | `skipLayerGuidance${'Scale' | 'Start' | 'Stop'}`
  | 'loras'

type DecidedParams = { readonly [Name in Decided]: NonNullable<GenerateParams[Name]> }

/** A field with the name of a parameter means the same. A parameter that has no default and keeps its form needs no line here. */
export interface GenerateCall extends Omit<GenerateParams, Decided | Replaced>, DecidedParams {
  /** When the call arrived, on the clock of performance.now(). */
  readonly arrivedAtMs: number
  /** The number of prompts. */
  readonly batch: number
  readonly texts: PromptTexts
  readonly negativeTexts: PromptTexts
  /** Copies of the embeddings given in place of texts. */
  readonly embeddings: PromptEmbeddings | undefined
  readonly negativeEmbeddings: PromptEmbeddings | undefined
  readonly skipLayerGuidance: SkipLayerGuidance | undefined
  readonly loras: readonly LoraChoice[]
  /** Absent when the call starts from noise alone. */
  readonly start?: StartPicture
}

/** What a call starts from in addition to noise. */
export interface StartPicture {
  /** Each is RGB, a tensor (1, 3, height, width) with values from 0 to 1, or latents (1, latent_channels, height / 8, width / 8). */
  readonly pictures: readonly (Rgb8Image | Tensor)[]
  readonly areLatents: boolean
  /** (masks, 1, height / 8, width / 8) of zeros and ones, where ones are painted. Undefined when everything is. */
  readonly mask: Tensor | undefined
  /** Above 0 up to 1. */
  readonly strength: number
}

interface SkipLayerGuidance {
  /** (layers,): 0 for each layer that is skipped, else 1. */
  readonly layerMask: Float32Array
  readonly scale: number
  /** Fractions of the steps; neither bound itself is included. */
  readonly start: number
  readonly stop: number
}

/** Throws GenerateParamsError for what cannot be run. */
export function resolveCall(params: GenerateParams, defaults: GenerateDefaults, limits: ParamLimits): GenerateCall {
  checkParams(params, limits)
  const batch =
    params.promptEmbeds === undefined ? (typeof params.prompt === 'string' ? 1 : (params.prompt?.length ?? 1)) : rowsOf(params.promptEmbeds)
  const numImagesPerPrompt = params.numImagesPerPrompt ?? 1
  const { generator } = params
  if (Array.isArray(generator) && generator.length > 1 && generator.length !== batch * numImagesPerPrompt)
    throw new GenerateParamsError('generator', `one, or a list of ${batch * numImagesPerPrompt}`, `a list of ${generator.length}`)
  return {
    ...params,
    width: params.width ?? defaults.width,
    height: params.height ?? defaults.height,
    numInferenceSteps: params.numInferenceSteps ?? defaults.numInferenceSteps,
    guidanceScale: params.guidanceScale ?? defaults.guidanceScale,
    maxSequenceLength: params.maxSequenceLength ?? defaults.maxSequenceLength,
    numImagesPerPrompt,
    guidanceInterval: params.guidanceInterval ?? [0, 1],
    clipSkip: params.clipSkip ?? 0,
    outputType: params.outputType ?? 'rgb8',
    callbackOnStepEndTensorInputs: params.callbackOnStepEndTensorInputs ?? ['latents'],
    arrivedAtMs: performance.now(),
    batch,
    ...toTexts(params, batch),
    // A copy, like the embeddings.
    latents: params.latents?.clone(),
    embeddings: pair(params.promptEmbeds, params.pooledPromptEmbeds),
    negativeEmbeddings: pair(params.negativePromptEmbeds, params.negativePooledPromptEmbeds),
    skipLayerGuidance: toSkipLayerGuidance(params, limits.layers),
    loras: (params.loras ?? []).map(({ id, scale = 1 }) => ({ id, scale })),
  }
}

function toSkipLayerGuidance(params: GenerateParams, layers = 0): SkipLayerGuidance | undefined {
  const { skipGuidanceLayers: skipped } = params
  if (skipped === undefined || skipped.length === 0) return undefined
  return {
    layerMask: Float32Array.from({ length: layers }, (_, layer) => (skipped.includes(layer) ? 0 : 1)),
    scale: params.skipLayerGuidanceScale ?? 2.8,
    start: params.skipLayerGuidanceStart ?? 0.01,
    stop: params.skipLayerGuidanceStop ?? 0.2,
  }
}

/** The prompts in the lists that the encoders read. An empty text falls back to its default, as an absent one does. */
function toTexts(params: GenerateParams, batch: number): { texts: PromptTexts; negativeTexts: PromptTexts } {
  const prompt = toList(
    'prompt',
    params.prompt,
    Array.from({ length: batch }, () => ''),
    batch,
  )
  // One negative prompt serves all prompts. There is no such rule for positive prompts.
  const negative = toList(
    'negativePrompt',
    spread(params.negativePrompt, batch),
    Array.from({ length: batch }, () => ''),
    batch,
  )
  return {
    texts: {
      prompt,
      prompt2: toList('prompt2', params.prompt2, prompt, batch),
      prompt3: toList('prompt3', params.prompt3, prompt, batch),
    },
    negativeTexts: {
      prompt: negative,
      prompt2: toList('negativePrompt2', spread(params.negativePrompt2, batch), negative, batch),
      prompt3: toList('negativePrompt3', spread(params.negativePrompt3, batch), negative, batch),
    },
  }
}

function spread(value: string | readonly string[] | undefined, batch: number): string | readonly string[] | undefined {
  return typeof value === 'string' && value !== '' ? Array.from({ length: batch }, () => value) : value
}

function toList(
  name: string,
  value: string | readonly string[] | undefined,
  fallback: readonly string[],
  batch: number,
): readonly string[] {
  if (value === undefined || value === '') return fallback
  const list = typeof value === 'string' ? [value] : value
  if (list.length !== batch) throw new GenerateParamsError(name, `as many texts as there are prompts, ${batch}`, `${list.length}`)
  return list
}

/** Copies, because the call may wait before it reads them, and the batcher tells rows apart by their memory. */
function pair(embeds: Tensor | undefined, pooled: Tensor | undefined): PromptEmbeddings | undefined {
  return embeds === undefined || pooled === undefined ? undefined : { embeds: embeds.clone(), pooled: pooled.clone() }
}
