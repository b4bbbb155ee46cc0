/** The two kinds of float8 that checkpoints hold. Pure. */

/** Bits of the exponent, and its bias. The other bits are one for the sign and those of the fraction. */
const kinds = { F8_E4M3: { exponentBits: 4, bias: 7 }, F8_E5M2: { exponentBits: 5, bias: 15 } } as const
export type Float8 = keyof typeof kinds

export function isFloat8(dtype: string): dtype is Float8 {
  return Object.hasOwn(kinds, dtype)
}

/** The value of each byte, indexed by the byte. */
export function float8Values(kind: Float8): Float32Array {
  const { exponentBits, bias } = kinds[kind]
  const fractionBits = 7 - exponentBits
  return Float32Array.from({ length: 256 }, (_, byte) => {
    const exponent = (byte & 0x7f) >> fractionBits
    const fraction = (byte & ((1 << fractionBits) - 1)) / (1 << fractionBits)
    const size = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias)
    const sign = byte >= 0x80 ? -1 : 1
    // E4M3 has no infinity, and only one NaN of each sign; E5M2 has infinities and NaNs as float16 does.
    if (kind === 'F8_E4M3') return (byte & 0x7f) === 0x7f ? NaN : sign * size
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
    return sign * size
  })
}
