/**
 * Text to token ids and back, with the special tokens, truncation and padding of a model's tokenizer.
 *
 * Invariant: never changes after it has been made. The native tokenizer's setters would also affect encodings that are already queued, so its
 * own truncation and padding stay off and both happen here, to the length that each call asks for.
 * Knows nothing about prompts or models. The native part runs on libuv's threads, in whatever process holds the pipeline.
 */

/**
 * The part of the package `tokenizers` that is used. It is declared here because the package's own declarations do not compile, and a program
 * that type-checks its libraries would run into them through ours.
 */
interface NativeTokenizer {
  encode(text: string, pair: null, options: { addSpecialTokens: boolean }): Promise<NativeEncoding>
  encodeBatch(texts: string[], options: { addSpecialTokens: boolean }): Promise<NativeEncoding[]>
  decode(ids: number[], skipSpecialTokens: boolean): Promise<string>
  decodeBatch(rows: number[][], skipSpecialTokens: boolean): Promise<string[]>
  tokenToId(token: string): number | null
  getVocabSize(withAddedTokens: boolean): number
  getVocab(withAddedTokens: boolean): Record<string, number>
}

interface NativeEncoding {
  getIds(): number[]
  getTokens(): string[]
}

/** The last private-use character, which no vocabulary has. */
const unknownCharacter = '\u{10FFFD}'

export interface TokenizerOptions {
  /** The longest row that the model takes, including special tokens; undefined when its configuration gives none. */
  readonly modelMaxLength: number | undefined
  /** The token that fills a row up to its length; undefined when the tokenizer cannot pad. */
  readonly padToken: string | undefined
  readonly bosToken: string | undefined
  readonly eosToken: string | undefined
  readonly unkToken: string | undefined
  /** The mark that ends a word in the vocabulary ("</w>" in CLIP) and is a space to a reader. Default none. */
  readonly endOfWordSuffix?: string | undefined
  /** An upper bound of the ids. Default Infinity: not known. */
  readonly largestId?: number
  /** The end at which a short row is filled. Default 'right'. */
  readonly paddingSide?: Side
  /** The end at which a long text is cut. Default 'right'. */
  readonly truncationSide?: Side
}

export type Side = 'left' | 'right'

export interface EncodeOptions {
  /** The length of a row in tokens, including special tokens and at least their number. Default modelMaxLength. */
  readonly maxLength?: number
  /** 'maxLength' fills every row up to maxLength with the pad token, on paddingSide; false leaves rows as they are. Default false. */
  readonly padding?: 'maxLength' | false
  /** Whether to truncate a row that is longer than maxLength, on truncationSide, keeping the special tokens. Default false. */
  readonly truncation?: boolean
  /** Whether to put the special tokens around the text. Default true. */
  readonly addSpecialTokens?: boolean
}

export interface DecodeOptions {
  /** Whether to leave special tokens out of the text. Default false. */
  readonly skipSpecialTokens?: boolean
}

export class Tokenizer {
  readonly native: NativeTokenizer
  readonly modelMaxLength: number | undefined
  readonly padToken: string | undefined
  readonly bosToken: string | undefined
  readonly eosToken: string | undefined
  readonly unkToken: string | undefined
  readonly endOfWordSuffix: string | undefined
  readonly largestId: number
  readonly paddingSide: Side
  readonly truncationSide: Side
  readonly padTokenId: number | undefined
  /** The number of tokens, including added ones. */
  readonly vocabSize: number
  /** The number of special tokens around every text. */
  readonly prefixIds: readonly number[]
  readonly suffixIds: readonly number[]

  constructor(native: NativeTokenizer, options: TokenizerOptions, prefixIds: readonly number[], suffixIds: readonly number[]) {
    this.native = native
    this.modelMaxLength = options.modelMaxLength
    this.padToken = options.padToken
    this.bosToken = options.bosToken
    this.eosToken = options.eosToken
    this.unkToken = options.unkToken
    this.endOfWordSuffix = options.endOfWordSuffix
    this.largestId = options.largestId ?? Infinity
    this.paddingSide = options.paddingSide ?? 'right'
    this.truncationSide = options.truncationSide ?? 'right'
    this.padTokenId = options.padToken === undefined ? undefined : (native.tokenToId(options.padToken) ?? undefined)
    this.vocabSize = native.getVocabSize(true)
    this.prefixIds = prefixIds
    this.suffixIds = suffixIds
  }

  /** Makes a tokenizer from the text of a tokenizer.json whose truncation and padding are null. */
  static async create(native: NativeTokenizer, options: TokenizerOptions): Promise<Tokenizer> {
    // Only the post-processor knows which special tokens go where; encoding one word with and without them shows it.
    const bare = (await native.encode('a', null, { addSpecialTokens: false })).getIds()
    const dressed = (await native.encode('a', null, { addSpecialTokens: true })).getIds()
    const start = dressed.findIndex((_, index) => bare.every((id, offset) => dressed[index + offset] === id))
    return new Tokenizer(native, options, dressed.slice(0, start), dressed.slice(start + bare.length))
  }

  async encode(text: string, options: EncodeOptions = {}): Promise<number[]> {
    const encoding = await this.native.encode(text, null, { addSpecialTokens: false })
    return this.toRow(encoding.getIds(), options)
  }

  async encodeBatch(texts: readonly string[], options: EncodeOptions = {}): Promise<number[][]> {
    const encodings = await this.native.encodeBatch([...texts], { addSpecialTokens: false })
    return encodings.map((encoding) => this.toRow(encoding.getIds(), options))
  }

  /** The tokens of a text, without special tokens around them. */
  async tokenize(text: string): Promise<string[]> {
    return (await this.native.encode(text, null, { addSpecialTokens: false })).getTokens()
  }

  async decode(ids: readonly number[], options: DecodeOptions = {}): Promise<string> {
    return this.toText(await this.native.decode([...ids], options.skipSpecialTokens ?? false))
  }

  async decodeBatch(rows: readonly (readonly number[])[], options: DecodeOptions = {}): Promise<string[]> {
    const copies = rows.map((row) => [...row])
    const texts = await this.native.decodeBatch(copies, options.skipSpecialTokens ?? false)
    return texts.map((text) => this.toText(text))
  }

  /**
   * The largest id, if some text produces an id from `limit` up; otherwise undefined. A vocabulary may list tokens that no text produces, so the
   * texts of all tokens beyond the limit are tried, and a character that no vocabulary has.
   */
  async largestIdFrom(limit: number): Promise<number | undefined> {
    if (this.largestId < limit) return undefined
    const beyond = Object.entries(this.native.getVocab(true)).filter(([, id]) => id >= limit)
    if (beyond.length === 0) return undefined
    const isBeyond = (id: number): boolean => id >= limit
    const decoded = await this.decodeBatch(beyond.map(([, id]) => [id]))
    const rows = await this.encodeBatch([...beyond.map(([token]) => token), ...decoded, unknownCharacter])
    const isReached = rows.some((row) => row.some(isBeyond)) || isBeyond(this.padTokenId ?? 0)
    return isReached ? beyond.reduce((largest, [, id]) => Math.max(largest, id), 0) : undefined
  }

  toText(decoded: string): string {
    return this.endOfWordSuffix === undefined ? decoded : decoded.replaceAll(this.endOfWordSuffix, ' ').trim()
  }

  toRow(textIds: readonly number[], options: EncodeOptions): number[] {
    const special = options.addSpecialTokens ?? true
    const prefix = special ? this.prefixIds : []
    const suffix = special ? this.suffixIds : []
    const maxLength = options.maxLength ?? this.modelMaxLength
    if (maxLength === undefined) {
      if (options.truncation === true || options.padding === 'maxLength')
        throw new RangeError('Expected maxLength, got none, and the tokenizer names none')
      return [...prefix, ...textIds, ...suffix]
    }
    const room = maxLength - prefix.length - suffix.length
    if (!Number.isInteger(maxLength) || room < 0) {
      throw new RangeError(`Expected maxLength to be an integer from ${prefix.length + suffix.length} up, got ${maxLength}`)
    }
    const first = this.truncationSide === 'left' ? Math.max(0, textIds.length - room) : 0
    const row = [...prefix, ...(options.truncation === true ? textIds.slice(first, first + room) : textIds), ...suffix]
    if (options.padding !== 'maxLength') return row
    if (this.padTokenId === undefined) throw new Error(`Expected a pad token in the vocabulary, got ${this.padToken ?? 'none'}`)
    const pads = Array<number>(Math.max(0, maxLength - row.length)).fill(this.padTokenId)
    return this.paddingSide === 'left' ? [...pads, ...row] : [...row, ...pads]
  }
}
