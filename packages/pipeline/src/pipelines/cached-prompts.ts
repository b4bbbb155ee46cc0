/**
 * Prompts to embeddings by way of the cache: each prompt is read on its own, once, whoever asks for it.
 *
 * Invariant: the rows are those of embedPrompts for the whole list; nobody writes to them, they may be the cache's own. Knows nothing about guidance. Runs in the engine process.
 */
import type { Engine } from '../batching/engine.ts'
import { concatRows } from '../tensor/rows.ts'
import type { GenerateDefaults } from './generate-call.ts'
import { embedPrompts } from './prompt-embeddings.ts'
import type { EmbedOptions, PromptEmbeddings, PromptTexts, TextComponents } from './prompt-embeddings.ts'

export interface CachingPipeline extends TextComponents {
  readonly engine: Engine
  readonly defaults: GenerateDefaults
}

export async function embedCached(pipe: CachingPipeline, texts: PromptTexts, options: EmbedOptions): Promise<PromptEmbeddings> {
  const { engine, textEncoder, textEncoder2, textEncoder3 } = pipe
  const encoders = [textEncoder, textEncoder2, textEncoder3]
  const prompts = texts.prompt.map((prompt, index) => {
    const [prompt2, prompt3] = [texts.prompt2[index] as string, texts.prompt3[index] as string]
    const key = JSON.stringify([prompt, prompt2, prompt3, options.clipSkip, options.maxSequenceLength])
    const isEmpty = prompt === '' && prompt2 === '' && prompt3 === ''
    // One entry for each model, the negative prompt of all requests that name none.
    const pin = isEmpty && options.clipSkip === 0 && options.maxSequenceLength === pipe.defaults.maxSequenceLength
    const row: PromptTexts = { prompt: [prompt], prompt2: [prompt2], prompt3: [prompt3] }
    return engine.promptCache.get(key, encoders, pin, () => engine.withMemory('text encoding', () => embedPrompts(pipe, row, options)))
  })
  const all = await Promise.all(prompts)
  const [only] = all
  if (all.length === 1 && only !== undefined) return only
  return { embeds: concatRows(all.map(({ embeds }) => embeds)), pooled: concatRows(all.map(({ pooled }) => pooled)) }
}
