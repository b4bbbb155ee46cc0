import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { roundToFloat16 } from './float16.ts'
import { Generator, randn, randnTensor } from './random-normal.ts'

// Made with torch 2.13 on x86-64; floats are base64 of little-endian float32.
const golden: readonly { seed: string; calls: number[]; sha256: string; head: string; tail: string }[] = JSON.parse(
  readFileSync(new URL('../../test/golden/randn.json', import.meta.url), 'utf8'),
)

const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength)

describe('randn draws the bits that torch draws', () => {
  test.for(golden)('seed $seed, calls $calls', ({ seed, calls, sha256, head, tail }) => {
    const generator = new Generator(BigInt(seed))
    const drawn = Buffer.concat(calls.map((numel) => bytesOf(randn([numel], generator).data)))
    expect(drawn.subarray(0, 64 * 4).toString('base64')).toBe(head)
    expect(drawn.subarray(-32 * 4).toString('base64')).toBe(tail)
    expect(createHash('sha256').update(drawn).digest('hex')).toBe(sha256)
  })
})

test('a number and a bigint of the same seed give the same stream', () => {
  expect(randn([40], new Generator(2 ** 53 - 1)).data).toEqual(randn([40], new Generator(2n ** 53n - 1n)).data)
})

test('a negative seed is taken modulo 2^64', () => {
  expect(new Generator(-1).initialSeed).toBe(2n ** 64n - 1n)
  expect(randn([40], new Generator(-1)).data).toEqual(randn([40], new Generator(2n ** 64n - 1n)).data)
})

test('a generator without a seed is the same every time, as in torch', () => {
  expect(new Generator().initialSeed).toBe(67280421310721n)
  expect(randn([16], new Generator()).data).toEqual(randn([16], new Generator(67280421310721)).data)
})

test.for([1.5, Number.NaN, Infinity, 2 ** 53, 2n ** 64n, -(2n ** 63n) - 1n])('seed %s is refused', (seed) => {
  expect(() => new Generator(seed)).toThrow(/Expected seed/)
})

test('a new seed drops the value that a small call has cached', () => {
  const generator = new Generator(5)
  const first = randn([1], generator).data
  expect(randn([1], generator.manualSeed(5)).data).toEqual(first)
})

test('a clone continues like its original and leaves it alone', () => {
  const generator = new Generator(9)
  randn([3], generator)
  randn([700], generator)
  const copy = generator.clone()
  const expected = [randn([5], copy).data, randn([700], copy).data]
  expect(copy.initialSeed).toBe(9n)
  expect([randn([5], generator).data, randn([700], generator).data]).toEqual(expected)
})

test('a state survives structured cloning, including the cached value, and does not change afterwards', () => {
  const generator = new Generator(9)
  randn([1], generator)
  const state = structuredClone(generator.getState())
  const kept = generator.getState()
  const expected = randn([1300], generator).data
  expect(randn([1], new Generator().setState(state)).data[0]).toBe(Math.fround(state.cachedNormal!))
  expect(randn([1300], generator.setState(kept)).data).toEqual(expected)
  expect(randn([1300], generator.setState(kept)).data).toEqual(expected)
})

test('a malformed state is refused', () => {
  const state = new Generator().getState()
  expect(() => new Generator().setState({ ...state, words: new Uint32Array(3) })).toThrow(/624 words, got 3/)
  expect(() => new Generator().setState({ ...state, position: 625 })).toThrow(/from 0 to 624, got 625/)
})

test('an empty tensor draws nothing', () => {
  const generator = new Generator(1)
  expect(randn([2, 0], generator).numel).toBe(0)
  expect(randn([20], generator).data).toEqual(randn([20], new Generator(1)).data)
})

test('an array of generators draws one row each', () => {
  const noise = randnTensor([2, 4, 8], [new Generator(1), new Generator(2)])
  expect(noise.dims).toEqual([2, 4, 8])
  expect(noise.data.slice(0, 32)).toEqual(randn([1, 4, 8], new Generator(1)).data)
  expect(noise.data.slice(32)).toEqual(randn([1, 4, 8], new Generator(2)).data)
})

test('an array of one generator draws the whole batch', () => {
  expect(randnTensor([2, 4, 8], [new Generator(1)]).data).toEqual(randn([2, 4, 8], new Generator(1)).data)
})

test('a wrong number of generators is refused', () => {
  const generators = [new Generator(1), new Generator(2)]
  expect(() => randnTensor([3, 16], generators)).toThrow('Expected one generator for each of the 3 rows, got 2')
  expect(() => randnTensor([3, 16], [])).toThrow(/got 0/)
})

test('float16 noise is the float32 noise rounded', () => {
  const half = randnTensor([1, 64], new Generator(3), 'float16')
  expect(half.dtype).toBe('float16')
  expect(half.data).toEqual(randn([1, 64], new Generator(3)).data.map(roundToFloat16))
})
