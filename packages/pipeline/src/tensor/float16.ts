/**
 * IEEE 754 half precision: rounding to it (to nearest, ties to even) and packing in 16 bits.
 *
 * Invariant: needs no `Float16Array` global, which the engine process deletes for ONNX Runtime's sake.
 * Knows nothing about tensors. Runs in any process that uses the library.
 */

/** The float16 value nearest to `x`; beyond 65504 (65520 and up) Infinity. */
export function roundToFloat16(x: number): number {
  return Math.f16round(x)
}

/** Packs values to float16 bit patterns, rounding those that float16 cannot represent. */
export function toFloat16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint16Array(values.length)
  const view = new DataView(bits.buffer)
  for (let i = 0; i < values.length; i++) view.setFloat16(i * 2, values[i]!, LITTLE_ENDIAN)
  return bits
}

/** Widens float16 bit patterns; exact for every pattern. */
export function fromFloat16Bits(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length)
  const view = new DataView(bits.buffer, bits.byteOffset, bits.byteLength)
  for (let i = 0; i < bits.length; i++) values[i] = view.getFloat16(i * 2, LITTLE_ENDIAN)
  return values
}

// Uint16Array has the byte order of the machine, DataView the one it is told: they must agree.
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1
