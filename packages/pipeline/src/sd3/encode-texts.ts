/**
 * The texts of a call as rows for the transformer: each prompt once for each of its pictures and, with guidance, the negative prompts too.
 *
 * Invariant: the rows belong to the prompt cache or to the call and are never written to. Runs in the engine process.
 */
import { splitRows } from '../tensor/rows.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { embedCached } from './embed-cached.ts'
import type { GenerateCall } from './generate-call.ts'
import { expectDims } from './generate-params.ts'
import type { ResidentModel } from './resident-model.ts'

/** Negative rows, where there are any, come first. */
export interface TextRows {
  /** Each (1, tokens, joint_attention_dim) */
  readonly embeds: readonly Tensor[]
  /** Each (1, pooled_projection_dim) */
  readonly pooled: readonly Tensor[]
}

/** `withNegative`: whether any step is guided. */
export async function encodeTexts(model: ResidentModel, call: GenerateCall, withNegative: boolean): Promise<TextRows> {
  const { joint_attention_dim, pooled_projection_dim } = model.transformer.config
  const { clipSkip, maxSequenceLength, signal, numImagesPerPrompt } = call
  const positive = call.embeddings ?? (await embedCached(model, call.texts, { clipSkip, maxSequenceLength, signal }))
  expectDims('promptEmbeds', positive.embeds, [call.batch, positive.embeds.dims[1] ?? 0, joint_attention_dim])
  expectDims('pooledPromptEmbeds', positive.pooled, [call.batch, pooled_projection_dim])
  const embeds = splitRows(positive.embeds, numImagesPerPrompt)
  const pooled = splitRows(positive.pooled, numImagesPerPrompt)
  if (!withNegative) return { embeds, pooled }
  // The negative prompt never skips CLIP layers.
  const negative = call.negativeEmbeddings ?? (await embedCached(model, call.negativeTexts, { clipSkip: 0, maxSequenceLength, signal }))
  expectDims('negativePromptEmbeds', negative.embeds, positive.embeds.dims)
  expectDims('negativePooledPromptEmbeds', negative.pooled, positive.pooled.dims)
  return {
    embeds: [...splitRows(negative.embeds, numImagesPerPrompt), ...embeds],
    pooled: [...splitRows(negative.pooled, numImagesPerPrompt), ...pooled],
  }
}
