import { expect, test } from 'vitest'
import { fromFloat16Bits, roundToFloat16, toFloat16Bits } from './float16.ts'

/** Value of a float16 bit pattern by the definition of the format. */
function widen(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

const allBits = Uint16Array.from({ length: 0x10000 }, (_, i) => i)

test('every bit pattern widens to the value the format defines', () => {
  expect(fromFloat16Bits(allBits)).toEqual(Float32Array.from(allBits, widen))
})

test('every bit pattern that is a number survives widening and packing', () => {
  const numbers = allBits.filter((bits) => !Number.isNaN(widen(bits)))
  expect(toFloat16Bits(fromFloat16Bits(numbers))).toEqual(numbers)
})

test('a value half way between two neighbours goes to the even one', () => {
  const finite = allBits.slice(0, 0x7c00)
  // Above the last finite pattern stands infinity, which counts as 65536 here.
  const middles = Float32Array.from(finite, (bits) => (widen(bits) + (bits === 0x7bff ? 65536 : widen(bits + 1))) / 2)
  const even = finite.map((bits) => (bits % 2 === 0 ? bits : bits + 1))
  expect(toFloat16Bits(middles)).toEqual(even)
  expect(middles.map((middle) => roundToFloat16(-middle))).toEqual(Float32Array.from(even, (bits) => -widen(bits)))
})

test('packing reads a view that does not start at the beginning of its buffer', () => {
  expect(fromFloat16Bits(Uint16Array.of(0, 0x3c00, 0xc000).subarray(1))).toEqual(Float32Array.of(1, -2))
})

test('float16 works where the Float16Array global is gone', () => {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, 'Float16Array')
  try {
    Reflect.deleteProperty(globalThis, 'Float16Array')
    expect(toFloat16Bits(Float32Array.of(1))).toEqual(Uint16Array.of(0x3c00))
    expect(roundToFloat16(1 / 3)).toBe(0.333251953125)
  } finally {
    if (descriptor !== undefined) Object.defineProperty(globalThis, 'Float16Array', descriptor)
  }
})
