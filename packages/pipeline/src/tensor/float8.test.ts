import { describe, expect, it } from 'vitest'
import { fromFloat16Bits } from './float16.ts'
import { float8Values } from './float8.ts'

describe('float8Values', () => {
  it('of E5M2 are the float16 numbers whose lower byte is zero', () => {
    const bits = Uint16Array.from({ length: 256 }, (_, byte) => byte << 8)
    expect([...float8Values('F8_E5M2')]).toEqual([...fromFloat16Bits(bits)])
  })

  it('of E4M3 are 2^8 times the float16 numbers with the same fraction and exponent, but for NaN', () => {
    const bits = Uint16Array.from({ length: 256 }, (_, byte) => ((byte & 0x80) << 8) | ((byte & 0x7f) << 7))
    const expected = [...fromFloat16Bits(bits)].map((value, byte) => ((byte & 0x7f) === 0x7f ? NaN : value * 256))
    expect([...float8Values('F8_E4M3')]).toEqual(expected)
    expect(Math.max(...float8Values('F8_E4M3').filter((value) => !Number.isNaN(value)))).toBe(448)
  })
})
