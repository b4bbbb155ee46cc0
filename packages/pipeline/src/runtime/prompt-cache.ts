/**
 * Prompt embeddings by the content they come from: a prompt that has been encoded once is not encoded again.
 *
 * Invariant: an entry is what the encoders gave for exactly these texts and settings; other encoders empty the cache. Requests that ask for
 * the same prompt at the same time share one encoding. Pinned entries (the empty negative prompt, which nearly every request needs) are
 * always kept; beyond a number of bytes the others are dropped, least recently used first. Entries are shared, so nobody may write to them.
 * Knows nothing about tokenizers and encoders. Runs in the engine process.
 */
import { LRUCache } from 'lru-cache'
import type { Tensor } from '../tensor/tensor.ts'
import { untilAborted } from './until-aborted.ts'

/** The embeddings of one prompt. */
export interface CachedPrompt {
  /** (1, tokens, joint_attention_dim) */
  readonly embeds: Tensor
  /** (1, pooled_projection_dim) */
  readonly pooled: Tensor
}

export interface PromptCacheStats {
  readonly hits: number
  readonly misses: number
  readonly entries: number
  readonly bytes: number
}

/** An encoding that is under way. */
interface Encoding {
  readonly prompt: Promise<CachedPrompt>
  readonly abort: AbortController
  /** The number of requests that wait for it. */
  waiting: number
}

export class PromptCache {
  readonly entries: LRUCache<string, CachedPrompt>
  readonly pinned = new Map<string, CachedPrompt>()
  readonly encoding = new Map<string, Encoding>()
  /** The encoders that made the entries. */
  encoders: readonly unknown[] = []
  hits = 0
  misses = 0

  /** `maxBytes`: limit for everything that is not pinned; with 0 nothing else is kept. */
  constructor(maxBytes: number) {
    if (!Number.isSafeInteger(maxBytes) || maxBytes < 0)
      throw new RangeError(`Expected promptCacheBytes to be an integer from 0 up, got ${maxBytes}`)
    // The class does not accept a limit of 0, and one byte holds nothing either.
    this.entries = new LRUCache({ maxSize: Math.max(1, maxBytes), sizeCalculation: (prompt, key) => bytesOf(prompt) + key.length * 2 })
  }

  /**
   * The embeddings for `key`, made by `encode` unless they exist or are being made. `encoders`: everything else they depend on. Rejects as soon
   * as `signal` aborts; the signal passed to `encode` aborts when nobody waits for the encoding any more.
   */
  async get(
    key: string,
    encoders: readonly unknown[],
    pin: boolean,
    encode: (signal: AbortSignal) => Promise<CachedPrompt>,
    signal?: AbortSignal,
  ): Promise<CachedPrompt> {
    signal?.throwIfAborted()
    if (encoders.length !== this.encoders.length || encoders.some((encoder, index) => encoder !== this.encoders[index])) {
      this.encoders = encoders
      this.pinned.clear()
      this.encoding.clear()
      this.entries.clear()
    }
    const known = this.pinned.get(key) ?? this.entries.get(key)
    const begun = this.encoding.get(key)
    if (known === undefined && begun === undefined) this.misses++
    else this.hits++
    if (known !== undefined) return known
    const encoding = begun ?? this.begin(key, pin, encode)
    encoding.waiting++
    const leave = (): void => {
      if (--encoding.waiting > 0) return
      this.forget(key, encoding)
      encoding.abort.abort(signal?.reason)
    }
    signal?.addEventListener('abort', leave, { once: true })
    try {
      return await untilAborted(encoding.prompt, signal)
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  begin(key: string, pin: boolean, encode: (signal: AbortSignal) => Promise<CachedPrompt>): Encoding {
    const abort = new AbortController()
    const keep = async (): Promise<CachedPrompt> => {
      try {
        const prompt = await encode(abort.signal)
        if (this.encoding.get(key) === encoding) (pin ? this.pinned : this.entries).set(key, prompt)
        return prompt
      } finally {
        this.forget(key, encoding)
      }
    }
    const encoding: Encoding = { abort, waiting: 0, prompt: Promise.resolve().then(keep) }
    this.encoding.set(key, encoding)
    return encoding
  }

  forget(key: string, encoding: Encoding): void {
    if (this.encoding.get(key) === encoding) this.encoding.delete(key)
  }

  /** Gives memory back by dropping everything that is not pinned. */
  clear(): void {
    this.entries.clear()
  }

  get stats(): PromptCacheStats {
    const pinnedBytes = [...this.pinned.values()].reduce((sum, prompt) => sum + bytesOf(prompt), 0)
    return {
      hits: this.hits,
      misses: this.misses,
      entries: this.entries.size + this.pinned.size,
      bytes: this.entries.calculatedSize + pinnedBytes,
    }
  }
}

function bytesOf({ embeds, pooled }: CachedPrompt): number {
  return embeds.data.byteLength + pooled.data.byteLength
}
