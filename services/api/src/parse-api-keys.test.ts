import { describe, expect, test } from 'vitest'
import { readConfig } from './config.ts'
import { parseApiKeys, parseApiKeysFile } from './parse-api-keys.ts'

describe('API_KEYS', () => {
  test('holds keys with or without a name and a weight, of which only hashes are kept', () => {
    const keys = parseApiKeys('alice:alice-secret, other-secret,bob*2.5:bobs-secret')
    expect(keys.map(({ owner, weight }) => [owner, weight])).toEqual([
      ['alice', 1],
      [expect.stringMatching(/^[0-9a-f]{16}$/), 1],
      ['bob', 2.5],
    ])
    expect(keys[1]?.owner).toBe(keys[1]?.formerOwner)
    expect(keys[0]?.formerOwner).toMatch(/^[0-9a-f]{16}$/)
    expect(JSON.stringify(keys)).not.toContain('secret')
  })

  test('may give several keys one name, with the same weight', () => {
    expect(parseApiKeys('alice*2:first-key,alice*2:second-key').map(({ owner }) => owner)).toEqual(['alice', 'alice'])
    expect(() => parseApiKeys('alice*2:first-key,alice:second-key')).toThrow('Expected one weight for all keys of alice, got 2 and 1')
  })

  test.each(['public', '0123456789abcdef', '0123456789ABCDEF'])(
    'does not take %s as a name, because it could be mistaken for another owner',
    (name) => {
      expect(() => parseApiKeys(`${name}:first-key`)).toThrow(/^Expected a name other than 'public' and 16 hex digits/)
    },
  )

  test('does not take keys that are short, repeated or malformed, and does not show them', () => {
    for (const text of [
      'short',
      'a:',
      'good-key-1,',
      'bad name:good-key-1',
      'good-key-1,x:good-key-1',
      'a*0:good-key-1',
      'a*1001:good-key-1',
      'a*-1:good-key-1',
      'a*:good-key-1',
      '*2:good-key-1',
      ':good-key-1',
      'käsekäse1',
    ]) {
      expect(() => parseApiKeys(text)).toThrow(/^Expected (?!.*(good-key|short|käse))/)
    }
    expect(() => readConfig({ API_KEYS: 'short' })).toThrow(/API_KEYS: Expected 8 to 256/)
    expect(readConfig({ API_KEYS: '' }).apiKeys).toEqual([])
  })

  test('may be in a file, one entry to a line or separated by commas, with comments', () => {
    const keys = parseApiKeysFile('# ours\nalice:first-key,\n\n  alice:second-key , bob:bobs-key1\r\n')
    expect(keys.map(({ owner }) => owner)).toEqual(['alice', 'alice', 'bob'])
    for (const text of ['', '\n# nothing\n']) expect(() => parseApiKeysFile(text)).toThrow('Expected at least one key, got none')
  })
})
