/**
 * Prompts to embeddings by way of the cache: each prompt is read on its own, once, whoever asks for it.
 *
 * Invariant: the rows are those of embedPrompts for the whole list; nobody writes to them, they may be the cache's own. Knows nothing about
 * guidance. Runs in the engine process.
 */
import type { Engine } from '../runtime/engine.ts'
import { concatRows } from '../tensor/rows.ts'
import type { GenerateDefaults } from './generate-call.ts'
import { embedPrompts } from './prompt-embeddings.ts'
import type { EmbedOptions, PromptEmbeddings, PromptTexts, TextComponents } from './prompt-embeddings.ts'

export interface CachingPipeline extends TextComponents {
  readonly engine: Engine
  readonly defaults: GenerateDefaults
}

export async function embedCached(pipe: CachingPipeline, texts: PromptTexts, options: EmbedOptions): Promise<PromptEmbeddings> {
  // The cache's own, without a copy, for the usual call of one prompt.
  if (texts.prompt.length === 1) return await embedOne(pipe, texts, options)
  const rows = texts.prompt.map((prompt, index) => {
    const [prompt2, prompt3] = [texts.prompt2[index] as string, texts.prompt3[index] as string]
    return embedOne(pipe, { prompt: [prompt], prompt2: [prompt2], prompt3: [prompt3] }, options)
  })
  const all = await Promise.all(rows)
  return { embeds: concatRows(all.map(({ embeds }) => embeds)), pooled: concatRows(all.map(({ pooled }) => pooled)) }
}

/** `texts`: of one prompt. */
function embedOne(pipe: CachingPipeline, texts: PromptTexts, options: EmbedOptions): Promise<PromptEmbeddings> {
  const { engine, textEncoder, textEncoder2, textEncoder3 } = pipe
  const { prompt, prompt2, prompt3 } = texts
  const { clipSkip, maxSequenceLength, signal } = options
  const isEmpty = prompt[0] === '' && prompt2[0] === '' && prompt3[0] === ''
  // One entry for each model, the negative prompt of all requests that name none.
  const pin = isEmpty && clipSkip === 0 && maxSequenceLength === pipe.defaults.maxSequenceLength
  const key = JSON.stringify([prompt, prompt2, prompt3, clipSkip, maxSequenceLength])
  // Several requests may wait for one encoding: it ends when all of them are aborted.
  const encode = (all: AbortSignal) => engine.withMemory('text encoding', () => embedPrompts(pipe, texts, { ...options, signal: all }))
  return engine.promptCache.get(key, [textEncoder, textEncoder2, textEncoder3], pin, encode, signal)
}
