/**
 * Tensors as stacks of rows along the first axis: joining, cutting and repeating them.
 *
 * Invariant: as in torch, joining copies and cutting does not. Knows nothing about what a row means.
 */
import { Tensor } from './tensor.ts'

/** A copy of the rows of all tensors, in order. Dims after the first must agree; one float32 part makes the result float32, as in torch. */
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
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.numel, 0))
  let offset = 0
  for (const part of parts) {
    data.set(part.data, offset)
    offset += part.numel
  }
  const dtype = parts.every((part) => part.dtype === 'float16') ? 'float16' : 'float32'
  return new Tensor(data, [rows, ...first.dims.slice(1)], dtype)
}

/** Rows `from` up to but without `to`, in the tensor's own memory. */
export function sliceRows(tensor: Tensor, from: number, to: number): Tensor {
  const length = tensor.numel / rowsOf(tensor)
  return new Tensor(tensor.data.subarray(from * length, to * length), [to - from, ...tensor.dims.slice(1)], tensor.dtype)
}

/** Each row `count` times, side by side: a, a, b, b. Parts for concatRows, in the tensor's own memory. */
export function repeatRows(tensor: Tensor, count: number): Tensor[] {
  if (count === 1) return [tensor]
  const rows = Array.from({ length: rowsOf(tensor) }, (_, row) => sliceRows(tensor, row, row + 1))
  return rows.flatMap((row) => Array.from({ length: count }, () => row))
}

/** Length of the first axis. */
export function rowsOf(tensor: Tensor): number {
  const rows = tensor.dims[0]
  if (rows === undefined) throw new RangeError('Expected a tensor with rows, got a scalar')
  return rows
}
