/**
 * Turns prompts into what the transformer reads: one token sequence and one pooled vector for each prompt.
 *
 * Invariant: equal to diffusers' encode_prompt (pipeline_stable_diffusion_3.py@58eb52c), one encoder after the other, no attention
 * masks. Knows nothing about guidance or how often a row is repeated. Runs in the engine process.
 */
import type { ClipTextEncoder } from '../models/clip-text-encoder.ts'
import type { T5TextEncoder } from '../models/t5-text-encoder.ts'
import { commonDtype, rowsOf } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizers/tokenizer.ts'

/** The parts that encode text. A model may lack any of them. */
export interface TextComponents {
  readonly tokenizer: Tokenizer | undefined
  readonly tokenizer2: Tokenizer | undefined
  readonly tokenizer3: Tokenizer | undefined
  readonly textEncoder: ClipTextEncoder | undefined
  readonly textEncoder2: ClipTextEncoder | undefined
  readonly textEncoder3: T5TextEncoder | undefined
}

export interface PromptTexts {
  readonly prompt: readonly string[]
  readonly prompt2: readonly string[]
  readonly prompt3: readonly string[]
}

export interface EmbedOptions {
  readonly clipSkip: number
  /** The number of tokens in the T5 part. */
  readonly maxSequenceLength: number
  /** The width of a token where there is no T5 encoder, which is the transformer's joint_attention_dim. */
  readonly jointAttentionDim: number
  /** Runs one encoder when its turn on the device comes. */
  readonly inTurn: <T>(encode: () => Promise<T>) => Promise<T>
}

export interface PromptEmbeddings {
  /** (prompts, CLIP tokens + maxSequenceLength, joint_attention_dim) */
  readonly embeds: Tensor
  /** (prompts, pooled_projection_dim) */
  readonly pooled: Tensor
}

/** The length of CLIP's rows when no tokenizer gives it. */
const usualClipLength = 77

export async function embedPrompts(parts: TextComponents, texts: PromptTexts, options: EmbedOptions): Promise<PromptEmbeddings> {
  // Both CLIP encoders get rows of the length that the first tokenizer gives, as in diffusers.
  const clipLength = parts.tokenizer?.modelMaxLength ?? parts.textEncoder?.config.max_position_embeddings ?? usualClipLength
  const first = await embedClip('text_encoder', parts.tokenizer, parts.textEncoder, texts.prompt, clipLength, options)
  const second = await embedClip('text_encoder_2', parts.tokenizer2, parts.textEncoder2, texts.prompt2, clipLength, options)
  const t5 = await embedT5(parts, texts.prompt3, options)
  const clip = concatWidth(first.hiddenStates, second.hiddenStates)
  return { embeds: joinTokens(clip, t5), pooled: concatWidth(first.pooled, second.pooled) }
}

async function embedClip(
  name: string,
  tokenizer: Tokenizer | undefined,
  encoder: ClipTextEncoder | undefined,
  prompts: readonly string[],
  length: number,
  { clipSkip, inTurn }: EmbedOptions,
) {
  if (tokenizer === undefined || encoder === undefined)
    throw new Error(`Expected a model with ${name} and its tokenizer, or promptEmbeds in place of prompts, got neither`)
  const ids = await tokenizer.encodeBatch(prompts, { maxLength: length, padding: 'maxLength', truncation: true })
  return inTurn(() => encoder.forward(ids, clipSkip))
}

async function embedT5(parts: TextComponents, prompts: readonly string[], options: EmbedOptions): Promise<Tensor> {
  const { tokenizer3, textEncoder3 } = parts
  if (textEncoder3 === undefined) {
    const dims = [prompts.length, options.maxSequenceLength, options.jointAttentionDim]
    // The zeros are float16 because they fit either precision.
    return new Tensor(new Float32Array(dims.reduce((product, dim) => product * dim)), dims, 'float16')
  }
  if (tokenizer3 === undefined) throw new Error('Expected a model with tokenizer_3 for its text_encoder_3, got none')
  const length = { maxLength: options.maxSequenceLength, padding: 'maxLength', truncation: true } as const
  const ids = await tokenizer3.encodeBatch(prompts, length)
  return options.inTurn(() => textEncoder3.forward(ids))
}

/** Joins along the last axis; all other axes must agree. */
function concatWidth(a: Tensor, b: Tensor): Tensor {
  const [widthA, widthB] = [a.dims.at(-1) as number, b.dims.at(-1) as number]
  const vectors = a.numel / widthA
  const data = new Float32Array(vectors * (widthA + widthB))
  for (let vector = 0; vector < vectors; vector++) {
    data.set(a.data.subarray(vector * widthA, (vector + 1) * widthA), vector * (widthA + widthB))
    data.set(b.data.subarray(vector * widthB, (vector + 1) * widthB), vector * (widthA + widthB) + widthA)
  }
  return new Tensor(data, [...a.dims.slice(0, -1), widthA + widthB], commonDtype([a, b]))
}

/** CLIP's tokens, padded with zeros to T5's width, followed by T5's tokens. */
function joinTokens(clip: Tensor, t5: Tensor): Tensor {
  const [, clipTokens, clipWidth] = clip.dims as [number, number, number]
  const [, t5Tokens, width] = t5.dims as [number, number, number]
  const rows = rowsOf(clip)
  const rowLength = (clipTokens + t5Tokens) * width
  const data = new Float32Array(rows * rowLength)
  for (let row = 0; row < rows; row++) {
    for (let token = 0; token < clipTokens; token++) {
      const from = (row * clipTokens + token) * clipWidth
      data.set(clip.data.subarray(from, from + clipWidth), row * rowLength + token * width)
    }
    data.set(t5.data.subarray(row * t5Tokens * width, (row + 1) * t5Tokens * width), row * rowLength + clipTokens * width)
  }
  return new Tensor(data, [rows, clipTokens + t5Tokens, width], commonDtype([clip, t5]))
}
