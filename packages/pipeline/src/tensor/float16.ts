/**
 * IEEE 754 half precision: rounding to it (to nearest, ties to even), packing in 16 bits, and the operators of a step on packed values.
 *
 * Invariant: needs no `Float16Array` global, which the engine process hides from ONNX Runtime. Every value equals what `Math.f16round`
 * gives, at a fraction of its cost, which matters because the thread that feeds the device does all of this between two runs.
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

/** The float16 value nearest to `x`; from 65520 up, Infinity. */
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

/** The largest finite float16, and its bits. */
const largest = 65504
const largestBits = 0x7bff

/** Packs values into float16 bit patterns, rounding those that float16 cannot represent. Writes to `bits`, of the same length, if given. */
export function toFloat16Bits(values: Float32Array, bits: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  forChunks(values.length, [], (start, end, { floats, halves, kernels }) => {
    floats.set(values.subarray(start, end))
    if (!kernels.pack(end - start, 0, 0, 0)) return bits.set(halves[0].subarray(0, end - start), start)
    const view = viewOf(bits)
    for (let i = start; i < end; i++) view.setFloat16(i * 2, values[i]!, littleEndian)
  })
  return bits
}

/** Widens float16 bit patterns; exact for every pattern. Writes to `values`, of the same length, if given. */
export function fromFloat16Bits(bits: Uint16Array, values: Float32Array = new Float32Array(bits.length)): Float32Array {
  forChunks(bits.length, [bits], (start, end, { floats, kernels }, starts) => {
    if (!kernels.widen(end - start, 0, 0, largestBits, ...starts)) return values.set(floats.subarray(0, end - start), start)
    const view = viewOf(bits)
    for (let i = start; i < end; i++) values[i] = view.getFloat16(i * 2, littleEndian)
  })
  return values
}

/** base + factor × (other − base) of float16 bits, every operator rounded to float16; the factor is float32. */
export function mixFloat16(base: Uint16Array, other: Uint16Array, factor: number): Uint16Array {
  const limit = bitsBelow(Math.min(largest / 2, mostMixed(factor)))
  return operate('mix', [base, other], { first: factor, limit }, (a, b) => mix(a, b, factor))
}

/** base + factor × other of float16 bits: the product is rounded to float16, then the sum. */
export function addScaledFloat16(base: Uint16Array, other: Uint16Array, factor: number): Uint16Array {
  const limit = bitsBelow(largest / (1 + Math.abs(factor)))
  return operate('addScaled', [base, other], { first: factor, limit }, (a, b) => addScaled(a, b, factor))
}

/** `addScaledFloat16(sample, mixFloat16(base, other, mixFactor), factor)` in one pass. Writes to `bits`, of the same length. */
export function addScaledMixFloat16(
  sample: Uint16Array,
  base: Uint16Array,
  other: Uint16Array,
  mixFactor: number,
  factor: number,
  bits: Uint16Array,
): void {
  const mixed = mostMixed(mixFactor)
  const limit = bitsBelow(Math.min(largest / 2, mixed, largest / (1 + (Math.abs(factor) * largest) / mixed)))
  const factors = { first: mixFactor, second: factor, limit }
  operate('addScaledMix', [base, other, sample], factors, (a, b, c) => addScaled(c, mix(a, b, mixFactor), factor), bits)
}

/** dividends / divisor + offset of float16 bits, every operator rounded to float16; the offset is float16. */
export function divideAndAddFloat16(dividends: Uint16Array, divisor: number, offset: number): Uint16Array {
  const limit = bitsBelow(Math.min(largest, (largest - Math.abs(offset)) * Math.abs(divisor)))
  return operate('divideAndAdd', [dividends], { first: divisor, second: offset, limit }, (a) =>
    roundSingle(roundSingle(a / divisor) + offset),
  )
}

const mix = (base: number, other: number, factor: number): number => roundSingle(base + roundSingle(factor * roundSingle(other - base)))
const addScaled = (base: number, other: number, factor: number): number => roundSingle(base + roundSingle(factor * other))

/** The largest size of operands with which a mix stays within float16; NaN for a factor that is too large for the kernels. */
function mostMixed(factor: number): number {
  return Math.abs(factor) < 2 ** 15 ? largest / (1 + 2 * Math.abs(factor)) : Number.NaN
}

interface KernelFactors {
  readonly first: number
  readonly second?: number
  /** The bits of the largest operand with which no operator can leave the range of float16. */
  readonly limit: number
}

/** Runs a kernel chunk by chunk, and computes each value of a chunk that the kernel has flagged with `alone`. */
function operate(
  kernel: 'mix' | 'addScaled' | 'addScaledMix' | 'divideAndAdd',
  operands: readonly [Uint16Array, ...Uint16Array[]],
  { first, second = 0, limit }: KernelFactors,
  alone: (...values: [number, number, number]) => number,
  bits: Uint16Array = new Uint16Array(operands[0].length),
): Uint16Array {
  forChunks(bits.length, operands, (start, end, { halves, kernels }, starts) => {
    if (!kernels[kernel](end - start, first, second, limit, ...starts)) return bits.set(halves[0].subarray(0, end - start), start)
    const views = operands.map(viewOf)
    const view = viewOf(bits)
    for (let at = start * 2; at < end * 2; at += 2) {
      const [a = 0, b = 0, c = 0] = views.map((operand) => operand.getFloat16(at, littleEndian))
      view.setFloat16(at, alone(a, b, c), littleEndian)
    }
  })
  return bits
}

/** The bits of a float16 a little below `size`, to leave room for rounding; -1, which every value exceeds, if there is none. */
function bitsBelow(size: number): number {
  if (!(size >= smallestNormal)) return -1
  return toFloat16Bits(Float32Array.of(Math.min(size, largest) * (1 - 2 ** -8)))[0]!
}

/** float16 operators compute in float32 and then round. */
function roundSingle(x: number): number {
  return roundToFloat16(Math.fround(x))
}

const viewOf = ({ buffer, byteOffset, byteLength }: Uint16Array): DataView => new DataView(buffer, byteOffset, byteLength)

// Uint16Array uses the machine's byte order and DataView the one it is given; they must agree.
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1
