/** The embeddings of prompts that are used again (encoding-cache.ts). The empty negative prompt, which nearly every request needs, is pinned. */
import type { Tensor } from '../tensor/tensor.ts'
import { EncodingCache } from './encoding-cache.ts'

/** The embeddings of one prompt. */
export interface CachedPrompt {
  /** (1, tokens, joint_attention_dim) */
  readonly embeds: Tensor
  /** (1, pooled_projection_dim) */
  readonly pooled: Tensor
}

export class PromptCache extends EncodingCache<CachedPrompt> {
  constructor(maxBytes: number) {
    super('promptCacheBytes', maxBytes, ({ embeds, pooled }) => embeds.data.byteLength + pooled.data.byteLength)
  }
}
