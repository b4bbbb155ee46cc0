/** Whether a tokenizer's ids fit the vocabulary of its encoder. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

interface TokenizerJson {
  added_tokens: { id: number; content: string; normalized: boolean }[]
  model: { vocab: Record<string, number>; unk_id?: number }
}
interface UnigramJson {
  added_tokens: TokenizerJson['added_tokens']
  model: { vocab: [string, number][]; unk_id: number }
}

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-ids-'))
  await cp(testModel('sd3-medium-kind'), folder, { recursive: true })
})
afterEach(() => rm(folder, { recursive: true }))

async function change(file: string, edit: (json: never) => void): Promise<void> {
  const path = join(folder, file)
  const json = JSON.parse(await readFile(path, 'utf8')) as never
  edit(json)
  await writeFile(path, JSON.stringify(json))
}
const changeTokenizer = (name: string, edit: (json: TokenizerJson) => void) => change(`${name}/tokenizer.json`, edit)

async function load(): Promise<string> {
  try {
    const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
    await pipe.generate({ prompt: 'a red boat', width: 16, height: 16, numInferenceSteps: 1, seed: 1 })
    await pipe.close()
  } catch (error) {
    return (error as Error).message
  }
  return 'draws'
}
const refusal = (name: string, encoder: string, size: number, largest: number): string =>
  `${join(folder, name)}: expected the largest id to be below ${size}, the vocab_size of ${encoder}, got ${largest}`
/** Fields of an added token. CLIP's tokenizers have the ids from 0 to 453 and its encoders know as many; T5 knows 161. */
const added = { special: false, single_word: false, lstrip: false, rstrip: false }

describe('a tokenizer is refused when the model loads', () => {
  it.each([
    ['tokenizer', 'text_encoder'],
    ['tokenizer_2', 'text_encoder_2'],
  ])('(%s) for a word that a prompt may contain', async (name, encoder) => {
    await changeTokenizer(name, ({ model }) => {
      model.vocab['boat</w>'] = 999
      // Its former id may stay unused, because ids need not follow one another.
      model.vocab['red</w>'] = 700
    })
    expect(await load()).toBe(refusal(name, encoder, 454, 999))
  })

  it.each([false, true])('for an added token (normalized %s), such as those of textual inversion', async (normalized) => {
    await changeTokenizer('tokenizer', ({ added_tokens: tokens }) => {
      tokens.push({ id: 454, content: '<Sks>', normalized, ...added })
    })
    expect(await load()).toBe(refusal('tokenizer', 'text_encoder', 454, 454))
  })

  it('for its pad token, although no prompt contains it', async () => {
    await changeTokenizer('tokenizer_2', ({ model }) => (model.vocab['padding-without-a-merge'] = 500))
    expect(await load()).toBe('draws')
    await change('tokenizer_2/tokenizer_config.json', (config: { pad_token: string }) => (config.pad_token = 'padding-without-a-merge'))
    expect(await load()).toBe(refusal('tokenizer_2', 'text_encoder_2', 454, 500))
  })

  it('for the token that closes every text', async () => {
    await changeTokenizer('tokenizer', (json) => {
      const { model } = json
      model.vocab['<|endoftext|>'] = 454
      json.added_tokens = json.added_tokens.map((token) => (token.id === 1 ? { ...token, id: 454 } : token))
      const text = JSON.stringify(json).replaceAll('["<|endoftext|>",1]', '["<|endoftext|>",454]')
      Object.assign(json, JSON.parse(text))
    })
    expect(await load()).toBe(refusal('tokenizer', 'text_encoder', 454, 454))
  })

  it('(T5’s) for a piece of a text, and for what stands for unknown characters', async () => {
    const file = 'tokenizer_3/tokenizer.json'
    const before = await readFile(join(folder, file), 'utf8')
    await change(file, ({ model }: UnigramJson) => void model.vocab.push(['▁boat', -1]))
    expect(await load()).toBe(refusal('tokenizer_3', 'text_encoder_3', 161, 161))
    await writeFile(join(folder, file), before)
    await change(file, (json: UnigramJson) => {
      json.model.vocab.push(['<unknown>', -50])
      json.model.unk_id = 161
      json.added_tokens = json.added_tokens.filter(({ content }) => content !== '<unk>')
    })
    expect(await load()).toBe(refusal('tokenizer_3', 'text_encoder_3', 161, 161))
  })
})

describe('a tokenizer is accepted', () => {
  it('if no text becomes the ids that its encoder lacks, as in diffusers', async () => {
    // No merge makes the first, and the second costs more than its letters.
    await changeTokenizer('tokenizer', ({ model }) => (model.vocab['padded-to-a-round-number'] = 511))
    await change('tokenizer_3/tokenizer.json', ({ model }: UnigramJson) => void model.vocab.push(['▁a', -1e6]))
    expect(await load()).toBe('draws')
  })

  it('if its encoder knows more ids, as the real T5 does', async () => {
    await change('tokenizer_3/tokenizer.json', ({ model }: UnigramJson) => void model.vocab.pop())
    expect(await load()).toBe('draws')
  })
})
