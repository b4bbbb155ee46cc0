import { expect, test } from 'vitest'
import { readConfig } from './config.ts'
import { parseModelAliases } from './parse-model-aliases.ts'

test('aliases are other names for models, and one model may have several', () => {
  const aliases = parseModelAliases(' dall-e-3 = tiny-scenes, gpt-image-1=tiny-scenes,a/b=c/d,')
  expect([...aliases]).toEqual([
    ['dall-e-3', 'tiny-scenes'],
    ['gpt-image-1', 'tiny-scenes'],
    ['a/b', 'c/d'],
  ])
  expect(readConfig({}).modelAliases.size).toBe(0)
})

test('an entry that is not an alias is refused, and so is an alias of two models', () => {
  for (const text of ['dall-e-3', '=a', 'a=', 'a=b=c', 'a=b,a=c']) {
    expect(() => readConfig({ MODEL_ALIASES: text })).toThrow(/^MODEL_ALIASES: Expected .*(alias)/)
  }
})
