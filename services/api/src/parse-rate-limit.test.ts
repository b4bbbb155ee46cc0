import { describe, expect, test } from 'vitest'
import { readConfig } from './config.ts'
import { parseRateLimit } from './parse-rate-limit.ts'

describe('RATE_LIMIT', () => {
  test('is a count and a period', () => {
    expect(parseRateLimit('60/min')).toEqual({ requests: 60, windowSeconds: 60 })
    expect(parseRateLimit(' 5/s ')).toEqual({ requests: 5, windowSeconds: 1 })
    expect(parseRateLimit('1000/3600')).toEqual({ requests: 1000, windowSeconds: 3600 })
    expect(parseRateLimit('9/day').windowSeconds).toBe(86_400)
  })

  test('is refused in any other form', () => {
    for (const text of [
      '60',
      '60/',
      '/min',
      '0/min',
      '60/0',
      '-1/min',
      '6.5/min',
      '60/fortnight',
      '60/min/min',
      '60/constructor',
      '1e3/s',
    ]) {
      expect(() => parseRateLimit(text)).toThrow(/^Expected COUNT\/PERIOD/)
    }
    expect(() => readConfig({ RATE_LIMIT: 'lots' })).toThrow(/RATE_LIMIT: Expected COUNT\/PERIOD/)
  })
})
