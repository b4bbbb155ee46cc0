/**
 * A dense row-major array of floats with its shape, as passed between the models, the scheduler and the image processor.
 *
 * Invariant: the number of values is the product of `dims`; a float16 tensor holds only values that float16 can represent.
 * Knows nothing about ONNX Runtime, devices or models. Code that computes with a float16 tensor rounds after each operation.
 * Runs in the engine process, or in any process that uses the library.
 */
import { fromFloat16Bits, toFloat16Bits } from './float16.ts'

export type TensorDtype = 'float32' | 'float16'

/** float32 values, or the bits of float16 values. */
export type TensorValues = Float32Array | Uint16Array

export class Tensor {
  /** The values as stored: a float16 tensor may hold bits or floats. Read `data` for floats and `bits` for bits. */
  values: TensorValues
  /** Length of each axis; `[]` is a scalar. */
  readonly dims: readonly number[]
  /** Precision of the values, and of every operation on them. */
  readonly dtype: TensorDtype

  constructor(values: TensorValues, dims: readonly number[], dtype: TensorDtype = 'float32') {
    const numel = numelOf(dims)
    if (values.length !== numel)
      throw new RangeError(`Expected data of ${numel} values for dims [${dims.join(', ')}], got ${values.length}`)
    if (values instanceof Uint16Array && dtype !== 'float16') throw new TypeError(`Expected a Float32Array for ${dtype}, got float16 bits`)
    this.values = values
    this.dims = [...dims]
    this.dtype = dtype
  }

  /**
   * Row-major values, which may be written to. The first read widens bits to floats, which the tensor holds from then on; slices made earlier
   * keep the bits.
   */
  get data(): Float32Array {
    if (this.values instanceof Uint16Array) this.values = fromFloat16Bits(this.values)
    return this.values
  }

  /** The values of a float16 tensor as bits, which must not be written to: its own memory, or a copy if it holds floats. */
  get bits(): Uint16Array {
    if (this.dtype !== 'float16') throw new TypeError(`Expected a float16 tensor, got ${this.dtype}`)
    return this.values instanceof Uint16Array ? this.values : toFloat16Bits(this.values)
  }

  /** The number of values. */
  get numel(): number {
    return this.values.length
  }

  /** A copy that shares nothing with this tensor. */
  clone(): Tensor {
    return new Tensor(this.values.slice(), this.dims, this.dtype)
  }
}

/** Memory for `length` values of a precision, filled with zeros. */
export function makeValues(length: number, dtype: TensorDtype): TensorValues {
  return dtype === 'float16' ? new Uint16Array(length) : new Float32Array(length)
}

/** Whether two shapes are the same. */
export function equalDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis])
}

/** The number of values in a tensor with these dims. Refuses dims that no tensor can have. */
export function numelOf(dims: readonly number[]): number {
  let numel = 1
  for (const dim of dims) {
    if (!Number.isInteger(dim) || dim < 0) throw new RangeError(`Expected dims of integers from 0 up, got [${dims.join(', ')}]`)
    numel *= dim
  }
  return numel
}
