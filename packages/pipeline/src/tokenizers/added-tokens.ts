/**
 * Tokens that were added to a vocabulary, such as those of a textual inversion. They are matched before a text is split into words.
 *
 * Equal to transformers 5 (tokenization_utils_base.py): tokenizer_config.json lists them in added_tokens_decoder, or else the older file
 * added_tokens.json does. Either completes the list in tokenizer.json.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { readModelJson } from '../models/model-file.ts'

const listedTokenSchema = z.looseObject({
  content: z.string(),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().default(false),
  special: z.boolean().default(false),
})

/** The tokens by their id. */
export const addedTokensDecoderSchema = z.record(z.string().regex(/^\d+$/), listedTokenSchema)

export type AddedToken = z.infer<typeof listedTokenSchema> & { readonly id: number }

/** `decoder`: added_tokens_decoder of tokenizer_config.json. `specialTokens`: the texts of the special tokens. */
export async function readAddedTokens(
  folder: string,
  decoder: z.infer<typeof addedTokensDecoderSchema> | null | undefined,
  specialTokens: ReadonlySet<string | undefined>,
): Promise<AddedToken[]> {
  if (decoder != null) return Object.entries(decoder).map(([id, token]) => ({ id: Number(id), ...token }))
  const file = join(folder, 'added_tokens.json')
  if (!existsSync(file)) return []
  const ids = await readModelJson(file, z.record(z.string(), z.int().nonnegative()))
  return Object.entries(ids).map(([content, id]) => toAddedToken(content, id, specialTokens.has(content)))
}

export function toAddedToken(content: string, id: number, special: boolean): AddedToken {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: !special, special }
}

/** Both lists by rising id. Where both have a token, the second one decides how it is matched. */
export function mergeAddedTokens<Token extends { readonly id: number; readonly content: string }>(
  own: readonly Token[],
  added: readonly AddedToken[],
): (Token | AddedToken)[] {
  const tokens = new Map<string, Token | AddedToken>([...own, ...added].map((token) => [token.content, token]))
  return [...tokens.values()].sort((a, b) => a.id - b.id)
}
