/**
 * Turns prompts into embeddings through the cache: each prompt is encoded by itself, once, whoever asks for it.
 *
 * Invariant: the rows equal those of embedPrompts for the whole list. Nobody may write to them, because they may belong to the cache. Knows
 * nothing about guidance. Runs in the engine process.
 */
import { concatRows } from '../tensor/rows.ts'
import { embedPrompts } from './embed-prompts.ts'
import type { PromptEmbeddings, PromptTexts } from './embed-prompts.ts'
import type { ResidentModel } from './resident-model.ts'

export interface CachedEmbedOptions {
  readonly clipSkip: number
  /** The number of tokens in the T5 part. */
  readonly maxSequenceLength: number
  /** Stops the wait for the embeddings, which are still made when another request wants them. Default none. */
  readonly signal?: AbortSignal | undefined
}

/** The parts of a model that this needs. */
type Reader = Omit<ResidentModel, 'imageProcessor' | 'limits'>

export async function embedCached(model: Reader, texts: PromptTexts, options: CachedEmbedOptions): Promise<PromptEmbeddings> {
  // For the usual call with one prompt this is the cache's own entry, not a copy.
  if (texts.prompt.length === 1) return await embedOne(model, texts, options)
  const rows = texts.prompt.map((prompt, index) => {
    const [prompt2, prompt3] = [texts.prompt2[index] as string, texts.prompt3[index] as string]
    return embedOne(model, { prompt: [prompt], prompt2: [prompt2], prompt3: [prompt3] }, options)
  })
  const all = await Promise.all(rows)
  return { embeds: concatRows(all.map(({ embeds }) => embeds)), pooled: concatRows(all.map(({ pooled }) => pooled)) }
}

/** `texts`: the texts of one prompt. */
function embedOne(model: Reader, texts: PromptTexts, options: CachedEmbedOptions): Promise<PromptEmbeddings> {
  const { runtime, textEncoder, textEncoder2, textEncoder3, transformer } = model
  const { prompt, prompt2, prompt3 } = texts
  const { clipSkip, maxSequenceLength, signal } = options
  const isEmpty = prompt[0] === '' && prompt2[0] === '' && prompt3[0] === ''
  // There is one such entry for each model: the negative prompt of all requests that name none.
  const pin = isEmpty && clipSkip === 0 && maxSequenceLength === model.defaults.maxSequenceLength
  const key = JSON.stringify([prompt, prompt2, prompt3, clipSkip, maxSequenceLength])
  const jointAttentionDim = transformer.config.joint_attention_dim
  // Several requests may wait for one encoding, which stops when all of them have been aborted.
  const encode = (all: AbortSignal) =>
    embedPrompts(model, texts, { clipSkip, maxSequenceLength, jointAttentionDim, inTurn: (run) => runtime.encode(run, all) })
  return runtime.promptCache.get(key, [textEncoder, textEncoder2, textEncoder3], pin, encode, signal)
}
