/**
 * The encodings of prompts or pictures, keyed by their content, so that the same content is not encoded twice.
 *
 * Invariant: an entry is what the encoders gave for exactly the content of its key; a change of encoders empties the cache. Requests that
 * ask for the same entry at the same time share one encoding. Pinned entries are always kept; beyond a number of bytes the others are dropped,
 * least recently used first. Entries are shared, so nobody may write to them. Knows nothing about tokenizers and encoders. Runs in the engine
 * process.
 */
import { LRUCache } from 'lru-cache'
import { untilAborted } from './until-aborted.ts'

export interface EncodingCacheStats {
  readonly hits: number
  readonly misses: number
  readonly entries: number
  readonly bytes: number
}

/** An encoding that is under way. */
interface Encoding<Entry> {
  readonly entry: Promise<Entry>
  readonly abort: AbortController
  /** The number of requests that wait for it. */
  waiting: number
}

export class EncodingCache<Entry extends object> {
  readonly entries: LRUCache<string, Entry>
  readonly pinned = new Map<string, Entry>()
  readonly encoding = new Map<string, Encoding<Entry>>()
  /** The encoders that made the entries. */
  encoders: readonly unknown[] = []
  hits = 0
  misses = 0

  readonly bytesOf: (entry: Entry) => number

  /** `maxBytes`: the limit for everything that is not pinned; with 0 only pinned entries are kept. `name`: what errors call that limit. */
  constructor(name: string, maxBytes: number, bytesOf: (entry: Entry) => number) {
    if (!Number.isSafeInteger(maxBytes) || maxBytes < 0)
      throw new RangeError(`Expected ${name} to be an integer from 0 up, got ${maxBytes}`)
    this.bytesOf = bytesOf
    // LRUCache does not accept a limit of 0, and no entry fits into one byte either.
    this.entries = new LRUCache({ maxSize: Math.max(1, maxBytes), sizeCalculation: (entry, key) => bytesOf(entry) + key.length * 2 })
  }

  /**
   * The entry for `key`, made by `encode` unless it exists or is being made. `encoders`: everything else it depends on. Rejects as soon
   * as `signal` aborts; the signal passed to `encode` aborts when no request waits for the encoding any more.
   */
  async get(
    key: string,
    encoders: readonly unknown[],
    pin: boolean,
    encode: (signal: AbortSignal) => Promise<Entry>,
    signal?: AbortSignal,
  ): Promise<Entry> {
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
      return await untilAborted(encoding.entry, signal)
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  begin(key: string, pin: boolean, encode: (signal: AbortSignal) => Promise<Entry>): Encoding<Entry> {
    const abort = new AbortController()
    const keep = async (): Promise<Entry> => {
      try {
        const entry = await encode(abort.signal)
        if (this.encoding.get(key) === encoding) (pin ? this.pinned : this.entries).set(key, entry)
        return entry
      } finally {
        this.forget(key, encoding)
      }
    }
    const encoding: Encoding<Entry> = { abort, waiting: 0, entry: Promise.resolve().then(keep) }
    this.encoding.set(key, encoding)
    return encoding
  }

  forget(key: string, encoding: Encoding<Entry>): void {
    if (this.encoding.get(key) === encoding) this.encoding.delete(key)
  }

  /** Gives memory back by dropping everything that is not pinned. */
  clear(): void {
    this.entries.clear()
  }

  get stats(): EncodingCacheStats {
    const pinnedBytes = [...this.pinned.values()].reduce((sum, entry) => sum + this.bytesOf(entry), 0)
    return {
      hits: this.hits,
      misses: this.misses,
      entries: this.entries.size + this.pinned.size,
      bytes: this.entries.calculatedSize + pinnedBytes,
    }
  }
}
