import { describe, expect, test } from 'vitest'
import { makeHalves } from './float16-kernels.ts'
import {
  addScaledFloat16,
  addScaledMixFloat16,
  divideAndAddFloat16,
  fromFloat16Bits,
  mixFloat16,
  roundToFloat16,
  toFloat16Bits,
} from './float16.ts'

/** The value of a float16 bit pattern, as the format defines it. */
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
  // The pattern above the last finite one is infinity, which counts as 65536 here.
  const middles = Float32Array.from(finite, (bits) => (widen(bits) + (bits === 0x7bff ? 65536 : widen(bits + 1))) / 2)
  const even = finite.map((bits) => (bits % 2 === 0 ? bits : bits + 1))
  expect(toFloat16Bits(middles)).toEqual(even)
  expect(middles.map((middle) => roundToFloat16(-middle))).toEqual(Float32Array.from(even, (bits) => -widen(bits)))
})

/** Doubles of every kind, the same in each run: any bits, values near float16's range, ties and their neighbours. */
function* doubles(): Generator<number> {
  const words = new Uint32Array(2)
  const double = new Float64Array(words.buffer)
  let state = 1
  const next = (): number => (state = Math.imul(state, 1664525) + 1013904223) >>> 0
  for (let i = 0; i < 300_000; i++) {
    words[0] = next()
    words[1] = next()
    yield double[0]!
    // Exponents from 2^-27 to 2^17 and few bits set: half of these are ties, or the last bit away from one.
    words[0] = [0, 0, 1, 0xffffffff][i % 4]!
    words[1] = ((next() & 0x80000000) | ((1023 - 27 + ((next() >>> 8) % 45)) << 20) | (next() & 0xffe00)) >>> 0
    yield double[0]!
  }
  for (const value of [0, -0, Infinity, -Infinity, Number.NaN, 65504, 65519.99, 65520, 2 ** -25, 2 ** -24, 2 ** -14]) {
    yield* [value, -value, Math.fround(value * (1 + 2 ** -23))]
  }
}

test('rounding gives the bits of Math.f16round for every kind of number', () => {
  const wrong = [...doubles()].filter((value) => !Object.is(roundToFloat16(value), Math.f16round(value)))
  expect(wrong).toEqual([])
})

test('packing rounds float32 values as Math.f16round does, wherever they are in an array', () => {
  const values = Float32Array.from(doubles())
  const expected = values.map(Math.f16round)
  expect(fromFloat16Bits(toFloat16Bits(values))).toEqual(expected)
  expect(toFloat16Bits(expected.filter((value) => !Number.isNaN(value)))).toEqual(
    toFloat16Bits(values.filter((value) => !Number.isNaN(value))),
  )
})

test('packing and widening write into what they are given, and nowhere else', () => {
  const bits = new Uint16Array(9).fill(7)
  toFloat16Bits(Float32Array.of(1, -2, 0.5, 4, 5), bits.subarray(2, 7))
  expect(bits).toEqual(Uint16Array.of(7, 7, 0x3c00, 0xc000, 0x3800, 0x4400, 0x4500, 7, 7))
  const values = new Float32Array(7).fill(7)
  fromFloat16Bits(bits.subarray(2, 7), values.subarray(1, 6))
  expect(values).toEqual(Float32Array.of(7, 1, -2, 0.5, 4, 5, 7))
})

describe('operators on many values round as each alone does', () => {
  const f16 = (value: number): number => Math.f16round(Math.fround(value))
  const numbers = fromFloat16Bits(allBits).filter((value) => !Number.isNaN(value))
  /** Every float16 value in another order, so that each is paired with another: enough for several chunks and an incomplete group at the end. */
  const shuffled = (step: number): Float32Array => numbers.map((_, i) => numbers[(i * step + 17) % numbers.length]!)
  /** Values like those in a step: none is large, many are subnormal or zero. */
  const small = (seed: number): Float32Array => numbers.map((_, i) => f16(Math.sin(i * seed) * 2 ** -((i * seed) % 26)))
  /** Values up to the size at which some operator with these factors leaves the range of float16. */
  const medium = (seed: number): Float32Array => numbers.map((_, i) => f16(Math.sin(i * seed) * 6000))
  const zeros = numbers.map((_, i) => (i % 3 === 0 ? -0 : i % 3 === 1 ? 0 : -(2 ** -24)))
  const cases: [string, Float32Array, Float32Array][] = [
    ['values of a usual size', small(3), small(7)],
    ['large values', medium(3), medium(7)],
    ['all float16 values', numbers, shuffled(12289)],
    ['zeros and what rounds to them', zeros, Float32Array.of(...zeros.subarray(2), 0, -0)],
    ['one value too large at the end', Float32Array.of(...small(3), 65504), Float32Array.of(...small(7), -65504)],
    ['a single value', Float32Array.of(0.1), Float32Array.of(-3)],
    ['no value', new Float32Array(0), new Float32Array(0)],
  ]
  /** Bits in which every NaN is the same, because its payload does not matter. */
  const bitsOf = (values: Float32Array): number[] => Array.from(toFloat16Bits(values), (bits) => ((bits & 0x7fff) > 0x7c00 ? 0x7e00 : bits))
  const plain = (bits: Uint16Array): number[] => bitsOf(fromFloat16Bits(bits))

  test.for(cases)('%s', ([, given, second]) => {
    const [base, other] = [given.map(f16), second.map(f16)]
    const [a, b] = [toFloat16Bits(base), toFloat16Bits(other)]
    for (const factor of [4.5, Math.fround(7.3), 0, -1, 70000, Number.NaN]) {
      const expected = base.map((value, i) => f16(value + f16(factor * f16(other[i]! - value))))
      expect(plain(mixFloat16(a, b, factor))).toEqual(bitsOf(expected))
    }
    for (const dt of [f16(-0.0123), -1, 0, 2 ** -24]) {
      const expected = bitsOf(base.map((value, i) => f16(value + f16(dt * other[i]!))))
      expect(plain(addScaledFloat16(a, b, dt))).toEqual(expected)
    }
    // A chunk with a -0 among its samples is computed value by value, so some have none.
    const halved = toFloat16Bits(Float32Array.from(other, (value) => value / 2))
    const sample = halved.map((bits, i) => (bits === 0x8000 && i < 32768 ? 0x8001 : bits))
    for (const [scale, dt] of [
      [4.5, f16(-0.0123)],
      [Math.fround(7.3), 3],
      [40000, -1],
    ] as const) {
      const mixed = base.map((value, i) => f16(value + f16(scale * f16(other[i]! - value))))
      const expected = fromFloat16Bits(sample).map((value, i) => f16(value + f16(dt * mixed[i]!)))
      // Once with all operands in the kernels' own memory, followed by values that would be flagged if they were read.
      const near = makeHalves(sample.length * 3 + 8).fill(0x7bff)
      const part = (index: number, values: Uint16Array) => {
        near.set(values, index * sample.length)
        return near.subarray(index * sample.length, (index + 1) * sample.length)
      }
      const operands = [part(0, sample), part(1, a), part(2, b)] as const
      for (const [samples, bases, others] of [[sample, a, b], operands, [sample, operands[1], operands[2]]] as const) {
        const bits = new Uint16Array(sample.length)
        addScaledMixFloat16(samples, bases, others, scale, dt, bits)
        expect(plain(bits)).toEqual(bitsOf(expected))
      }
      expect(operands).toEqual([sample, a, b])
    }
    for (const [divisor, offset] of [
      [Math.fround(1.5305), f16(0.0609)],
      [2 ** -20, 0],
      [0, 1],
    ] as const) {
      expect(plain(divideAndAddFloat16(a, divisor, offset))).toEqual(bitsOf(base.map((value) => f16(f16(value / divisor) + offset))))
    }
  })

  test('what one call leaves behind does not disturb the next', () => {
    const huge = new Uint16Array(7).fill(0x7bff)
    mixFloat16(huge, huge, 2)
    expect(mixFloat16(Uint16Array.of(0x3c00), Uint16Array.of(0x4000), 2)).toEqual(Uint16Array.of(0x4200))
    expect(toFloat16Bits(Float32Array.of(1))).toEqual(Uint16Array.of(0x3c00))
  })
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
