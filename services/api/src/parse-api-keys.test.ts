import { describe, expect, test } from 'vitest'
import { readConfig } from './config.ts'
import { parseApiKeys } from './parse-api-keys.ts'

describe('API_KEYS', () => {
  test('keys with and without a name are kept as hashes only', () => {
    const keys = parseApiKeys('alice:alice-secret, other-secret')
    expect(keys.map((key) => key.name)).toEqual(['alice', keys[1]?.owner.slice(0, 8)])
    expect(keys[0]?.owner).toMatch(/^[0-9a-f]{16}$/)
    expect(JSON.stringify(keys)).not.toContain('secret')
  })

  test('keys that are short, doubled or malformed are refused without being shown', () => {
    for (const text of [
      'short',
      'a:',
      'good-key-1,',
      'bad name:good-key-1',
      'good-key-1,x:good-key-1',
      'x:good-key-1,x:good-key-2',
      'käsekäse1',
    ]) {
      expect(() => parseApiKeys(text)).toThrow(/^Expected (?!.*(good-key|short|käse))/)
    }
    expect(() => readConfig({ API_KEYS: 'short' })).toThrow(/API_KEYS: Expected 8 to 256/)
    expect(readConfig({ API_KEYS: '' }).apiKeys).toEqual([])
  })
})
