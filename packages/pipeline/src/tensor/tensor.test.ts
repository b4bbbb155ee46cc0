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
