/**
 * Makes a Tokenizer from a model's tokenizer folder: `tokenizer.json`, or CLIP's `vocab.json` with `merges.txt`.
 *
 * Invariant: the files that exist decide; the class name in tokenizer_config.json is ignored, because it changes with the exporter's version.
 * Knows nothing about what the ids are for.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Tokenizer as NativeTokenizer } from 'tokenizers'
import { z } from 'zod'
import { ModelFileError, readModelJson, readModelText } from '../models/model-file.ts'
import { addedTokensDecoderSchema, mergeAddedTokens, readAddedTokens } from './added-tokens.ts'
import type { AddedToken } from './added-tokens.ts'
import { toClipTokenizerJson } from './clip-tokenizer-json.ts'
import { Tokenizer } from './tokenizer.ts'
import type { Side, TokenizerOptions } from './tokenizer.ts'

/** A token by its text, or with its text in `content`. */
const tokenSchema = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .nullish()
  .transform((token) => (typeof token === 'object' ? token?.content : token))

const sideSchema = z.enum(['left', 'right']).nullish()

const specialTokens = { pad_token: tokenSchema, bos_token: tokenSchema, eos_token: tokenSchema, unk_token: tokenSchema }

const tokenizerConfigSchema = z.looseObject({
  ...specialTokens,
  /** Includes special tokens. Exporters write 1e30 for "no limit". */
  model_max_length: z.number().positive().nullish(),
  added_tokens_decoder: addedTokensDecoderSchema.nullish(),
  padding_side: sideSchema,
  truncation_side: sideSchema,
  /** Whether the texts of special tokens are split like any other text. */
  split_special_tokens: z.boolean().nullish(),
})
type TokenizerConfig = z.infer<typeof tokenizerConfigSchema>

const directionSchema = z.looseObject({ direction: z.enum(['Left', 'Right']).nullish() }).nullish()

const tokenizerJsonSchema = z.looseObject({
  model: z.looseObject({ end_of_word_suffix: z.string().nullish(), vocab: z.unknown().optional() }),
  added_tokens: z.array(z.looseObject({ id: z.int().nonnegative(), content: z.string() })).nullish(),
  padding: directionSchema,
  truncation: directionSchema,
})
type TokenizerJson = z.infer<typeof tokenizerJsonSchema>

type SpecialTokens = Pick<TokenizerOptions, 'padToken' | 'bosToken' | 'eosToken' | 'unkToken'>

const noLimit = 1e9

export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const configFile = join(folder, 'tokenizer_config.json')
  const config = await readModelJson(configFile, tokenizerConfigSchema)
  const mapFile = join(folder, 'special_tokens_map.json')
  const map = existsSync(mapFile) ? await readModelJson(mapFile, z.looseObject(specialTokens)) : undefined
  // As in transformers, the map decides unless the configuration lists the added tokens.
  const [first, second] = config.added_tokens_decoder == null ? [map, config] : [config, map]
  const tokenOf = (name: keyof typeof specialTokens) => first?.[name] ?? second?.[name] ?? undefined
  const special = {
    padToken: tokenOf('pad_token'),
    bosToken: tokenOf('bos_token'),
    eosToken: tokenOf('eos_token'),
    unkToken: tokenOf('unk_token'),
  }
  const limit = config.model_max_length ?? undefined
  const modelMaxLength = limit !== undefined && limit < noLimit ? limit : undefined
  if (config.split_special_tokens === true)
    throw new ModelFileError(configFile, 'split_special_tokens', 'false, as special tokens are never split', 'true')
  const added = await readAddedTokens(folder, config.added_tokens_decoder, new Set(Object.values(special)))
  const { native, ...form } = await loadNative(folder, config, special, added)
  const tokenizer = await Tokenizer.create(native, { ...special, modelMaxLength, ...form })
  const least = tokenizer.prefixIds.length + tokenizer.suffixIds.length + 1
  if (modelMaxLength !== undefined && (modelMaxLength < least || !Number.isInteger(modelMaxLength)))
    throw new ModelFileError(configFile, 'model_max_length', `an integer from ${least} up`, `${modelMaxLength}`)
  return tokenizer
}

interface Loaded {
  readonly native: NativeTokenizer
  readonly endOfWordSuffix: string | undefined
  readonly largestId: number
  readonly paddingSide: Side
  readonly truncationSide: Side
}

async function loadNative(folder: string, config: TokenizerConfig, special: SpecialTokens, added: readonly AddedToken[]): Promise<Loaded> {
  const file = join(folder, 'tokenizer.json')
  const vocabFile = join(folder, 'vocab.json')
  const mergesFile = join(folder, 'merges.txt')
  let json: TokenizerJson
  if (existsSync(file)) {
    json = await readModelJson(file, tokenizerJsonSchema)
  } else if (existsSync(vocabFile) && existsSync(mergesFile)) {
    const vocab = await readModelJson(vocabFile, z.record(z.string(), z.int().nonnegative()))
    json = tokenizerJsonSchema.parse(toClipTokenizerJson(vocab, await readModelText(mergesFile), special))
  } else {
    const hint = existsSync(join(folder, 'spiece.model')) ? 'only spiece.model, which has to be converted' : 'neither'
    throw new ModelFileError(file, '', 'this file, or vocab.json with merges.txt', hint)
  }
  json.added_tokens = mergeAddedTokens(json.added_tokens ?? [], added)
  try {
    const native = NativeTokenizer.fromString(JSON.stringify({ ...json, truncation: null, padding: null }))
    // Special tokens are matched before a text is split, like added ones, whether or not the list has them.
    const listed = new Set(json.added_tokens.map(({ content }) => content))
    const tokens = Object.values(special).filter((token) => token !== undefined)
    native.addSpecialTokens(tokens.filter((token) => !listed.has(token) && native.tokenToId(token) !== null))
    const suffix = json.model.end_of_word_suffix ?? ''
    return {
      native,
      endOfWordSuffix: suffix === '' ? undefined : suffix,
      largestId: largestIdOf(json),
      paddingSide: config.padding_side ?? toSide(json.padding?.direction),
      truncationSide: config.truncation_side ?? toSide(json.truncation?.direction),
    }
  } catch (error) {
    throw new ModelFileError(file, '', 'a tokenizer that loads', (error as Error).message, { cause: error })
  }
}

/** tokenizer.json says at which end rows are filled and texts are cut if tokenizer_config.json does not. */
function toSide(direction: 'Left' | 'Right' | null | undefined): Side {
  return direction === 'Left' ? 'left' : 'right'
}

/** Read from the JSON, in a hundredth of the time that asking the native tokenizer takes. The native one has checked the text. */
function largestIdOf({ model: { vocab }, added_tokens: added }: TokenizerJson): number {
  const ids = Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab as Record<string, number>)
  const addedIds = (added ?? []).map(({ id }) => id)
  return [...ids, ...addedIds].reduce((largest, id) => Math.max(largest, id), 0)
}
