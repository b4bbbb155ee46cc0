/**
 * Tensors as stacks of rows along the first axis: joins, slices and splits them.
 *
 * Invariant: as in torch, joining copies and slicing does not. Values keep the form in which they are stored. Knows nothing about what a
 * row means.
 */
import { Tensor } from './tensor.ts'
import type { TensorDtype, TensorValues } from './tensor.ts'

/** Copies the rows of all tensors in order. All dims except the first must agree; one float32 part makes the result float32, as in torch. */
export function concatRows(parts: readonly Tensor[]): Tensor {
  const first = parts[0]
  if (first === undefined) throw new RangeError('Expected at least one tensor to concatenate, got none')
  const tail = first.dims.slice(1).join(', ')
  let rows = 0
  for (const part of parts) {
    if (part.dims.slice(1).join(', ') !== tail) {
      throw new RangeError(`Expected rows of [${tail}], got rows of [${part.dims.slice(1).join(', ')}]`)
    }
    rows += rowsOf(part)
  }
  const length = parts.reduce((sum, part) => sum + part.numel, 0)
  const areBits = parts.every(({ values }) => values instanceof Uint16Array)
  const joined: TensorValues = areBits ? new Uint16Array(length) : new Float32Array(length)
  let offset = 0
  for (const part of parts) {
    joined.set(areBits ? part.values : part.data, offset)
    offset += part.numel
  }
  return new Tensor(joined, [rows, ...first.dims.slice(1)], commonDtype(parts))
}

/** The dtype of an operation on all of them: float16 only when all are float16. */
export function commonDtype(parts: readonly Tensor[]): TensorDtype {
  return parts.every(({ dtype }) => dtype === 'float16') ? 'float16' : 'float32'
}

/** The rows from `from` up to but excluding `to`, in the tensor's own memory. */
export function sliceRows(tensor: Tensor, from: number, to: number): Tensor {
  const length = tensor.numel / rowsOf(tensor)
  return new Tensor(tensor.values.subarray(from * length, to * length), [to - from, ...tensor.dims.slice(1)], tensor.dtype)
}

/** The rows one by one, each `count` times in a row: a, a, b, b. In the tensor's own memory. */
export function splitRows(tensor: Tensor, count = 1): Tensor[] {
  const rows = rowsOf(tensor)
  return Array.from({ length: rows * count }, (_, index) => {
    const row = Math.floor(index / count)
    return rows === 1 ? tensor : sliceRows(tensor, row, row + 1)
  })
}

/** The length of the first axis. */
export function rowsOf(tensor: Tensor): number {
  const rows = tensor.dims[0]
  if (rows === undefined) throw new RangeError('Expected a tensor with rows, got a scalar')
  return rows
}
