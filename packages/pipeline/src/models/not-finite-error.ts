/**
 * The error for a part of a model that computes NaN or infinity, because its weights are damaged or overflow in float16.
 *
 * Such a value spreads to everything computed from it, so checking the results of a part finds it; the weights themselves are never searched.
 * Runs in the engine process.
 */
import type { Tensor } from '../tensor/tensor.ts'

/** All bits of a float16's exponent: they are set in infinities and NaN only. */
const float16Exponent = 0x7c00

/** A part of a model computed a value that is not a finite number. */
export class NotFiniteError extends Error {
  override readonly name = 'NotFiniteError'

  /** `part`: what computed it, for example 'text_encoder'. `file`: its weights or its graph. */
  constructor(part: string, file: string) {
    super(
      `Expected ${part} to compute finite numbers, got NaN or infinity: the weights in ${file} are damaged, or they need a higher precision`,
    )
  }
}

/** `part` and `file` as in NotFiniteError, which is thrown unless all values are finite. */
export function assertFinite(tensor: Tensor, part: string, file: string): void {
  if (!isFiniteTensor(tensor)) throw new NotFiniteError(part, file)
}

export function isFiniteTensor({ values }: Tensor): boolean {
  // Plain loops, because a callback for each value is slow.
  if (values instanceof Uint16Array) {
    for (let index = 0; index < values.length; index++) if (((values[index] as number) & float16Exponent) === float16Exponent) return false
    return true
  }
  for (let index = 0; index < values.length; index++) if (!Number.isFinite(values[index])) return false
  return true
}
