/**
 * Turns CLIP's `vocab.json` and `merges.txt` into the text of a tokenizer.json.
 *
 * The JSON form is the only way, because the binding's builders take patterns literally and CLIP's splitting needs a regular expression.
 * Equal to transformers 5 (models/clip/tokenization_clip.py). Pure; knows nothing about files.
 */
import { toAddedToken } from './added-tokens.ts'
import type { TokenizerOptions } from './tokenizer.ts'

/** The special tokens that the tokenizer's files name; where one is absent, CLIP's own is used. */
type ClipSpecialTokens = Pick<TokenizerOptions, 'bosToken' | 'eosToken' | 'padToken'>

const beginOfText = '<|startoftext|>'
const endOfText = '<|endoftext|>'
const words = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

export function toClipTokenizerJson(
  vocab: Readonly<Record<string, number>>,
  mergesText: string,
  { bosToken: bos = beginOfText, eosToken: eos = endOfText, padToken: pad = eos }: ClipSpecialTokens,
): Record<string, unknown> {
  const special = [...new Set([bos, eos, pad])].filter((token) => Object.hasOwn(vocab, token))
  const byteLevel = { trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    added_tokens: special.map((content) => toAddedToken(content, vocab[content] as number, true)),
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: words }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, ...byteLevel },
      ],
    },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [eos, vocab[eos]],
      cls: [bos, vocab[bos]],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, ...byteLevel },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: eos,
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: mergesText
        .split('\n')
        .filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')))
        .map((line) => line.trimEnd().split(' ')),
    },
  }
}
