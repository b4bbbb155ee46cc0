import { expect, test } from 'vitest'
import { Tensor } from './tensor.ts'

test('a tensor knows its number of values and is float32 unless told otherwise', () => {
  const tensor = new Tensor(new Float32Array(6), [1, 2, 3])
  expect(tensor.numel).toBe(6)
  expect(tensor.dtype).toBe('float32')
  expect(new Tensor(Float32Array.of(1), []).numel).toBe(1)
})

test('data that does not fill the dims is refused with both sizes', () => {
  expect(() => new Tensor(new Float32Array(5), [2, 3])).toThrow('Expected data of 6 values for dims [2, 3], got 5')
})

test.for([[-1], [1.5], [Number.NaN]])('dims %s are refused', (dims) => {
  expect(() => new Tensor(new Float32Array(0), dims)).toThrow(/Expected dims of integers from 0 up/)
})

test('a clone shares neither data nor dims with its original', () => {
  const dims = [2]
  const original = new Tensor(Float32Array.of(1, 2), dims, 'float16')
  const copy = original.clone()
  copy.data[0] = 9
  dims[0] = 7
  expect(original.data).toEqual(Float32Array.of(1, 2))
  expect(original.dims).toEqual([2])
  expect(copy.dtype).toBe('float16')
})

test('a float16 tensor of bits and one of floats hold the same values', () => {
  const [one, minusTwo] = [0x3c00, 0xc000]
  const ofBits = new Tensor(Uint16Array.of(one, minusTwo), [2], 'float16')
  expect(ofBits.clone().bits).toEqual(Uint16Array.of(one, minusTwo))
  expect(ofBits.numel).toBe(2)
  expect(ofBits.data).toEqual(Float32Array.of(1, -2))
  // What is written to the values counts from then on, and the memory of the bits is left alone.
  ofBits.data[0] = -2
  expect([ofBits.data, ofBits.bits]).toEqual([Float32Array.of(-2, -2), Uint16Array.of(minusTwo, minusTwo)])
  expect(new Tensor(Float32Array.of(1, -2), [2], 'float16').bits).toEqual(Uint16Array.of(one, minusTwo))
})

test('bits are refused for a float32 tensor, and so is asking one for its bits', () => {
  expect(() => new Tensor(Uint16Array.of(0x3c00), [1])).toThrow('Expected a Float32Array for float32, got float16 bits')
  expect(() => new Tensor(Float32Array.of(1), [1]).bits).toThrow('Expected a float16 tensor, got float32')
})
