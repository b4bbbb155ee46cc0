/**
 * A dense row-major array of floats with its shape, as passed between the models, the scheduler and the image processor.
 *
 * Invariant: `data.length` is the product of `dims`; a float16 tensor holds only values that float16 can represent.
 * Knows nothing about ONNX Runtime, devices or models. Code that computes with a float16 tensor rounds after each operation.
 * Runs in the engine process, or in any process that uses the library.
 */

export type TensorDtype = 'float32' | 'float16'

export class Tensor {
  /** Row-major values, always in a Float32Array: float16 values are stored widened and are packed into 16 bits only by the session. */
  readonly data: Float32Array
  /** Length of each axis; `[]` is a scalar. */
  readonly dims: readonly number[]
  /** Precision of the values, and of every operation on them. */
  readonly dtype: TensorDtype

  constructor(data: Float32Array, dims: readonly number[], dtype: TensorDtype = 'float32') {
    const numel = numelOf(dims)
    if (data.length !== numel) throw new RangeError(`Expected data of ${numel} values for dims [${dims.join(', ')}], got ${data.length}`)
    this.data = data
    this.dims = [...dims]
    this.dtype = dtype
  }

  /** The number of values. */
  get numel(): number {
    return this.data.length
  }

  /** A copy that shares nothing with this tensor. */
  clone(): Tensor {
    return new Tensor(this.data.slice(), this.dims, this.dtype)
  }
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
