import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadTokenizer } from './load-tokenizer.ts'

const root = fileURLToPath(new URL('../../../../', import.meta.url))
const golden = fileURLToPath(new URL('../../test/golden/', import.meta.url))
const demo = join(root, 'models/tiny-scenes')
const real = process.env['SD3_TOKENIZERS_DIR'] ?? join(root, '../shared/tokenizers')
const hasReal = existsSync(join(real, 'tokenizer_3/tokenizer.json'))

type Golden = Record<'tokenizer' | 'tokenizer_2' | 'tokenizer_3', { max_length: number; ids: number[][] }> & { texts: string[] }
const names = ['tokenizer', 'tokenizer_2', 'tokenizer_3'] as const

async function goldenAndOurs(file: string, folder: string, name: (typeof names)[number]) {
  const table = JSON.parse(await readFile(join(golden, file), 'utf8')) as Golden
  const tokenizer = await loadTokenizer(join(folder, name))
  const options = { maxLength: table[name].max_length, padding: 'maxLength', truncation: true } as const
  return {
    expected: table[name].ids,
    batch: await tokenizer.encodeBatch(table.texts, options),
    single: await Promise.all(table.texts.map((text) => tokenizer.encode(text, options))),
  }
}

if (!hasReal) process.stderr.write(`SKIPPED: token ids of the real SD3 tokenizers, not found in ${real} (set SD3_TOKENIZERS_DIR)\n`)

describe('token ids are those of transformers', () => {
  it.each(names)('for the demo model, %s', async (name) => {
    const { expected, batch, single } = await goldenAndOurs('tokens-tiny-scenes.json', demo, name)
    expect(batch).toEqual(expected)
    expect(single).toEqual(expected)
  })

  it.skipIf(!hasReal).each(names)('for Stable Diffusion 3, %s', async (name) => {
    const { expected, batch, single } = await goldenAndOurs('tokens.json', real, name)
    expect(batch).toEqual(expected)
    expect(single).toEqual(expected)
  })
})

describe('a tokenizer', () => {
  it('knows its special tokens, vocabulary and length', async () => {
    const tokenizer = await loadTokenizer(join(demo, 'tokenizer'))
    expect(tokenizer).toMatchObject({
      modelMaxLength: 20,
      padToken: '<|endoftext|>',
      padTokenId: 1,
      bosToken: '<|startoftext|>',
      eosToken: '<|endoftext|>',
    })
    expect(tokenizer.vocabSize).toBe(454)
    expect([tokenizer.prefixIds, tokenizer.suffixIds]).toEqual([[0], [1]])
  })

  it('gives each of 200 calls at once the length it asked for', async () => {
    const tokenizer = await loadTokenizer(join(demo, 'tokenizer_3'))
    const rows = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        tokenizer.encode('a red boat on the sea '.repeat(1 + (n % 5)), { maxLength: 4 + (n % 30), padding: 'maxLength', truncation: true }),
      ),
    )
    expect(rows.map((row) => row.length)).toEqual(Array.from({ length: 200 }, (_, n) => 4 + (n % 30)))
  })

  it('decodes what it encoded', async () => {
    const tokenizer = await loadTokenizer(join(demo, 'tokenizer'))
    const ids = await tokenizer.encode('a red boat', { padding: 'maxLength' })
    expect(await tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('a red boat')
    expect(await tokenizer.decodeBatch([ids, ids.slice(0, 2)])).toEqual([expect.stringContaining('<|startoftext|>'), expect.any(String)])
    expect(await tokenizer.tokenize('a red boat')).toHaveLength(3)
  })

  it('keeps a long text whole without truncation, and leaves special tokens out on request', async () => {
    const tokenizer = await loadTokenizer(join(demo, 'tokenizer_3'))
    const long = 'a boat '.repeat(40)
    expect((await tokenizer.encode(long)).length).toBeGreaterThan(40)
    const bare = await tokenizer.encode('a boat', { addSpecialTokens: false })
    expect(await tokenizer.encode('a boat')).toEqual([...bare, ...tokenizer.suffixIds])
  })

  it('refuses a length that has no room for the special tokens', async () => {
    const tokenizer = await loadTokenizer(join(demo, 'tokenizer'))
    await expect(tokenizer.encode('a', { maxLength: 1, truncation: true })).rejects.toThrow(
      'Expected maxLength to be an integer from 2 up, got 1',
    )
    await expect(tokenizer.encode('a', { maxLength: 2.5 })).rejects.toThrow('got 2.5')
  })
})

describe('a tokenizer folder', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'easel-tokenizer-'))
    const { model } = JSON.parse(await readFile(join(demo, 'tokenizer/tokenizer.json'), 'utf8')) as {
      model: { vocab: Record<string, number>; merges: (string | [string, string])[] }
    }
    const merges = model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')))
    await writeFile(join(folder, 'vocab.json'), JSON.stringify(model.vocab))
    await writeFile(join(folder, 'merges.txt'), ['#version: 0.2', ...merges, ''].join('\n'))
    await writeFile(
      join(folder, 'tokenizer_config.json'),
      JSON.stringify({ model_max_length: 20, pad_token: { content: '<|endoftext|>' } }),
    )
  })
  afterAll(() => rm(folder, { recursive: true }))

  it('of vocab.json and merges.txt gives the same ids as the tokenizer.json made from them', async () => {
    const parts = await loadTokenizer(folder)
    const whole = await loadTokenizer(join(demo, 'tokenizer'))
    const texts = ['a red boat on the sea', "it's <|endoftext|> 12!", '你好 ünïcode', '']
    const options = { padding: 'maxLength', truncation: true } as const
    expect(await parts.encodeBatch(texts, options)).toEqual(await whole.encodeBatch(texts, options))
  })

  describe('of the demo model with other settings', () => {
    let changed: string
    beforeEach(async () => {
      changed = await mkdtemp(join(tmpdir(), 'easel-tokenizer-'))
      await cp(join(demo, 'tokenizer'), changed, { recursive: true })
    })
    afterEach(() => rm(changed, { recursive: true }))

    async function change(file: string, fields: Record<string, unknown>): Promise<void> {
      const path = join(changed, file)
      await writeFile(path, JSON.stringify({ ...(JSON.parse(await readFile(path, 'utf8')) as object), ...fields }))
    }

    const short = { maxLength: 8, padding: 'maxLength', truncation: true } as const
    const texts = ['a', 'a red boat on the sea at night']
    const [onRight, onLeft] = [
      [0, 263, 1, 1, 1, 1, 1, 1],
      [1, 1, 1, 1, 1, 0, 263, 1],
    ]
    const [firstTokens, lastTokens] = [
      [0, 263, 343, 382, 275, 277, 431, 1],
      [0, 382, 275, 277, 431, 296, 409, 1],
    ]

    it.each([
      ['tokenizer_config.json', { padding_side: 'left' }, [onLeft, firstTokens]],
      ['tokenizer_config.json', { truncation_side: 'left' }, [onRight, lastTokens]],
      ['tokenizer.json', { padding: { direction: 'Left' } }, [onRight, firstTokens]],
      ['tokenizer_config.json', { padding_side: undefined, truncation_side: undefined }, [onRight, firstTokens]],
    ])('fills and cuts rows at the end that %s names with %j', async (file, fields, rows) => {
      await change(file, fields)
      expect(await (await loadTokenizer(changed)).encodeBatch(texts, short)).toEqual(rows)
    })

    it('takes the ends that tokenizer.json names if tokenizer_config.json names none', async () => {
      await change('tokenizer_config.json', { padding_side: undefined, truncation_side: undefined })
      await change('tokenizer.json', { padding: { direction: 'Left' }, truncation: { direction: 'Left' } })
      expect(await (await loadTokenizer(changed)).encodeBatch(texts, short)).toEqual([onLeft, lastTokens])
    })

    const sks = { content: '<sks>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: false }
    // Ids as transformers 5.24 gives them. A token that is normalized is also found in capitals.
    const inCapitals = [0, 263, 343, 454, 382, 1, 1, 1, 1, 1, 1, 1]
    const notInCapitals = [0, 263, 343, 1, 84, 76, 258, 1, 382, 1, 1, 1]

    it.each([
      ['tokenizer.json and added_tokens.json', false, { file: { '<sks>': 454 } }, inCapitals],
      ['vocab.json and added_tokens.json', true, { file: { '<sks>': 454 } }, inCapitals],
      ['tokenizer.json and added_tokens_decoder', false, { decoder: { 454: sks } }, notInCapitals],
      ['vocab.json and added_tokens_decoder', true, { decoder: { 454: sks } }, notInCapitals],
      ['added_tokens_decoder before added_tokens.json', true, { decoder: { 454: sks }, file: { '<sks>': 455, boat: 456 } }, notInCapitals],
    ])('knows an added token from %s', async (_, isParts, { decoder, file }: { decoder?: object; file?: object }, capitals) => {
      if (isParts) {
        await rm(join(changed, 'tokenizer.json'))
        for (const part of ['vocab.json', 'merges.txt']) await cp(join(folder, part), join(changed, part))
      }
      if (file !== undefined) await writeFile(join(changed, 'added_tokens.json'), JSON.stringify(file))
      if (decoder !== undefined) await change('tokenizer_config.json', { added_tokens_decoder: decoder })
      const tokenizer = await loadTokenizer(changed)
      const options = { maxLength: 12, padding: 'maxLength', truncation: true } as const
      expect(await tokenizer.encodeBatch(['a red <sks> boat', 'a red<SKS>boat'], options)).toEqual([inCapitals, capitals])
      expect(await tokenizer.largestIdFrom(454)).toBe(454)
    })

    it('takes its special tokens from special_tokens_map.json, unless tokenizer_config.json lists the added ones', async () => {
      await writeFile(join(changed, 'special_tokens_map.json'), JSON.stringify({ pad_token: '!' }))
      expect(await loadTokenizer(changed)).toMatchObject({ padToken: '!', padTokenId: 2, eosToken: '<|endoftext|>' })
      await change('tokenizer_config.json', { added_tokens_decoder: { 454: sks } })
      expect(await loadTokenizer(changed)).toMatchObject({ padToken: '<|endoftext|>', padTokenId: 1 })
    })

    it.each(['pad_token', 'unk_token'])('finds its %s within a text, though tokenizer.json does not list it as added', async (name) => {
      await change('tokenizer_config.json', { [name]: '!' })
      const rows = await (await loadTokenizer(changed)).encodeBatch(['a red boat!', 'a red! boat'])
      // As transformers 5.24 gives them.
      const expected = [
        [0, 263, 343, 382, 2, 1],
        [0, 263, 343, 2, 382, 1],
      ]
      expect(rows).toEqual(expected)
    })

    it('is refused if it would split special tokens', async () => {
      await change('tokenizer_config.json', { split_special_tokens: true })
      await expect(loadTokenizer(changed)).rejects.toThrow(/tokenizer_config\.json: expected split_special_tokens to be false/)
    })
  })

  it('with only spiece.model, without files or with damaged ones is refused with the name of the file', async () => {
    const broken = await mkdtemp(join(tmpdir(), 'easel-tokenizer-'))
    try {
      await expect(loadTokenizer(broken)).rejects.toThrow(/tokenizer_config\.json: expected a readable JSON file, got no such file/)
      await writeFile(join(broken, 'tokenizer_config.json'), JSON.stringify({ model_max_length: 'long' }))
      await expect(loadTokenizer(broken)).rejects.toThrow(
        /tokenizer_config\.json: expected model_max_length to be a finite number, got "long"/,
      )
      await writeFile(join(broken, 'tokenizer_config.json'), '{}')
      await expect(loadTokenizer(broken)).rejects.toThrow(
        /tokenizer\.json: expected this file, or vocab\.json with merges\.txt, got neither/,
      )
      await writeFile(join(broken, 'spiece.model'), '')
      await expect(loadTokenizer(broken)).rejects.toThrow(/only spiece\.model/)
      await cp(join(folder, 'vocab.json'), join(broken, 'vocab.json'))
      await writeFile(join(broken, 'tokenizer.json'), JSON.stringify({ model: { type: 'Nonsense' } }))
      await expect(loadTokenizer(broken)).rejects.toThrow(/tokenizer\.json: expected a tokenizer that loads/)
    } finally {
      await rm(broken, { recursive: true })
    }
  })
})
