/**
 * IEEE 754 half precision: rounding to it (to nearest, ties to even) and packing in 16 bits.
 *
 * Invariant: needs no `Float16Array` global, which the engine process hides from ONNX Runtime. Every value equals what `Math.f16round`
 * gives, at a small part of its cost, because the thread that feeds the device does all of this between two runs.
 * Knows nothing about tensors. Runs in any process that uses the library.
 */
import { forChunks } from './float16-kernels.ts'

/** The smallest number that float16 represents with all of its 11 bits. */
const smallestNormal = 2 ** -14
/** From here up the nearest float16 is Infinity. */
const overflow = 65520
/** Splits a double into its first 11 bits and the rest (Veltkamp 1968). */
const splitter = 2 ** 42 + 1
/** A double of this size can hold multiples of 2^-24, the smallest step of float16, and nothing smaller. */
const subnormalShift = 1.5 * 2 ** 28

/** The float16 value nearest to `x`; beyond 65504 (65520 and up) Infinity. */
export function roundToFloat16(x: number): number {
  const size = Math.abs(x)
  if (size >= smallestNormal && size < overflow) {
    const shifted = x * splitter
    return shifted - (shifted - x)
  }
  if (size < smallestNormal) {
    const rounded = x + subnormalShift - subnormalShift
    // The sum has lost the sign of a zero, which a product that underflows keeps.
    return rounded === 0 ? x * Number.MIN_VALUE : rounded
  }
  return x * Infinity
}

/** Packs values into float16 bit patterns, rounding those that float16 cannot represent. Writes to `bits`, of the same length, if given. */
export function toFloat16Bits(values: Float32Array, bits: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  forChunks(values.length, (start, end, { floats, halves, kernels }) => {
    floats[0].set(values.subarray(start, end))
    if (kernels.pack(end - start, 0, 0)) packRounded(values, bits, start, end)
    else bits.set(halves.subarray(0, end - start), start)
  })
  return bits
}

/** Widens float16 bit patterns; exact for every pattern. Writes to `values`, of the same length, if given. */
export function fromFloat16Bits(bits: Uint16Array, values: Float32Array = new Float32Array(bits.length)): Float32Array {
  forChunks(bits.length, (start, end, { floats, halves, kernels }) => {
    halves.set(bits.subarray(start, end))
    kernels.widen(end - start, 0, 0)
    values.set(floats[0].subarray(0, end - start), start)
  })
  return values
}

/**
 * base + factor × (other − base), every operator rounded to float16; base and other hold float16 values, the factor is float32. The result
 * is written to `values`, which may be base itself. Default: new memory.
 */
export function mixFloat16(
  base: Float32Array,
  other: Float32Array,
  factor: number,
  values: Float32Array = new Float32Array(base.length),
): Float32Array {
  forChunks(values.length, (start, end, { floats, kernels }) => {
    floats[0].set(base.subarray(start, end))
    floats[1].set(other.subarray(start, end))
    if (!kernels.mix(end - start, factor, 0)) return values.set(floats[0].subarray(0, end - start), start)
    for (let i = start; i < end; i++) {
      const difference = roundSingle(other[i]! - base[i]!)
      values[i] = roundSingle(base[i]! + roundSingle(factor * difference))
    }
  })
  return values
}

/** base + factor × other: the product is rounded to float16, added in float32, and the sum rounded. `base` may hold float32 values. */
export function addScaledFloat16(base: Float32Array, other: Float32Array, factor: number): Float32Array {
  const values = new Float32Array(base.length)
  forChunks(values.length, (start, end, { floats, kernels }) => {
    floats[0].set(base.subarray(start, end))
    floats[1].set(other.subarray(start, end))
    if (!kernels.addScaled(end - start, factor, 0)) return values.set(floats[0].subarray(0, end - start), start)
    for (let i = start; i < end; i++) values[i] = roundSingle(base[i]! + roundSingle(factor * other[i]!))
  })
  return values
}

/** values / divisor + offset, every operator rounded to float16. */
export function divideAndAddFloat16(dividends: Float32Array, divisor: number, offset: number): Float32Array {
  const values = new Float32Array(dividends.length)
  forChunks(values.length, (start, end, { floats, kernels }) => {
    floats[0].set(dividends.subarray(start, end))
    if (!kernels.divideAndAdd(end - start, divisor, offset)) return values.set(floats[0].subarray(0, end - start), start)
    for (let i = start; i < end; i++) values[i] = roundSingle(roundSingle(dividends[i]! / divisor) + offset)
  })
  return values
}

/** float16 operators compute in float32 first. */
function roundSingle(x: number): number {
  return roundToFloat16(Math.fround(x))
}

function packRounded(values: Float32Array, bits: Uint16Array, start: number, end: number): void {
  const view = new DataView(bits.buffer, bits.byteOffset, bits.byteLength)
  for (let i = start; i < end; i++) view.setFloat16(i * 2, values[i]!, LITTLE_ENDIAN)
}

// Uint16Array uses the machine's byte order and DataView the one it is given; they must agree.
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1
