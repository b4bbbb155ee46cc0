import { describe, expect, it } from 'vitest'
import { concatRows, rowsOf, sliceRows, splitRows } from './rows.ts'
import { Tensor } from './tensor.ts'

const tensor = (dims: number[], dtype: 'float32' | 'float16' = 'float32') =>
  new Tensor(
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, index) => index),
    dims,
    dtype,
  )

describe('rows', () => {
  it('are joined in order, and cut out again', () => {
    const joined = concatRows([tensor([1, 2]), tensor([2, 2])])
    expect(joined).toEqual(new Tensor(Float32Array.of(0, 1, 0, 1, 2, 3), [3, 2]))
    expect(sliceRows(joined, 1, 3)).toEqual(tensor([2, 2]))
  })

  it('are split one by one, and may be repeated next to each other', () => {
    expect(splitRows(tensor([2, 2])).map(({ data }) => [...data])).toEqual([
      [0, 1],
      [2, 3],
    ])
    expect([...concatRows(splitRows(tensor([2, 2]), 3)).data]).toEqual([0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3])
  })

  it('are copied by joining and shared by cutting', () => {
    const source = tensor([2, 2])
    concatRows([source]).data.fill(9)
    expect(source).toEqual(tensor([2, 2]))
    sliceRows(source, 1, 2).data.fill(9)
    expect([...source.data]).toEqual([0, 1, 9, 9])
  })

  it('are float16 only when all of them are', () => {
    const half = tensor([1, 2], 'float16')
    expect(concatRows([half, half]).dtype).toBe('float16')
    expect(concatRows([half, tensor([1, 2])]).dtype).toBe('float32')
    expect(sliceRows(half, 0, 1).dtype).toBe('float16')
  })

  it('of different shapes, of nothing and of a scalar are refused', () => {
    expect(() => concatRows([tensor([1, 2]), tensor([1, 3])])).toThrow('Expected rows of [2], got rows of [3]')
    expect(() => concatRows([])).toThrow('Expected at least one tensor to concatenate, got none')
    expect(() => rowsOf(tensor([]))).toThrow('Expected a tensor with rows, got a scalar')
  })
})
