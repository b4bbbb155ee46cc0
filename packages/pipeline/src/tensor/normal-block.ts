/**
 * The Box-Muller transform of 16 float32 values, rounded operation by operation like torch's AVX2 kernel with fused
 * multiply-add.
 *
 * Invariant: every value is float32 at every point; `fma` rounds once (the product of two float32 is exact in a double).
 * Knows nothing about generators or tensors. Runs in any process that uses the library.
 *
 * Source: pytorch ATen/native/cpu/DistributionTemplates.h (normal_fill_16_AVX2) and avx_mathfun.h (log256_ps,
 * sincos256_ps), whose polynomials are those of the Cephes library.
 */

const f32 = Math.fround
const fma = (a: number, b: number, c: number): number => f32(a * b + c)

const floatView = new Float32Array(1)
const bitsView = new Uint32Array(floatView.buffer)

const half = 8
const twoPi = f32(2 * Math.PI)
const fourOverPi = f32(1.27323954473516)
const sqrtHalf = f32(Math.SQRT1_2)
/** ln 2 in two parts and pi / 4 in three, so that products with small integers are exact in the first part. */
const ln2Low = f32(-2.1219444e-4)
const ln2High = f32(0.693359375)
const quarterPi1 = f32(-0.78515625)
const quarterPi2 = f32(-2.4187564849853515625e-4)
const quarterPi3 = f32(-3.774894977445941e-8)
const logCoefficients = Float32Array.of(
  7.0376836292e-2,
  -1.151461031e-1,
  1.167699874e-1,
  -1.2420140846e-1,
  1.4249322787e-1,
  -1.6668057665e-1,
  2.0000714765e-1,
  -2.4999993993e-1,
  3.3333331174e-1,
)
const cos0 = f32(2.443315711809948e-5)
const cos1 = f32(-1.388731625493765e-3)
const cos2 = f32(4.166664568298827e-2)
const sin0 = f32(-1.9515295891e-4)
const sin1 = f32(8.3321608736e-3)
const sin2 = f32(-1.6666654611e-1)

/** Turns 16 uniform values in [0, 1), from `start` on, into 16 standard normal ones, in place. */
export function fillNormalBlock(values: Float32Array, start: number): void {
  for (let i = start; i < start + half; i++) {
    const radius = f32(Math.sqrt(f32(-2 * log(f32(1 - values[i]!)))))
    const angle = f32(twoPi * values[i + half]!)

    // The octant of the angle, and the angle within it.
    const octant = (Math.trunc(f32(angle * fourOverPi)) + 1) & ~1
    const x = fma(octant, quarterPi3, fma(octant, quarterPi2, fma(octant, quarterPi1, angle)))
    const z = f32(x * x)
    const c = f32(f32(f32(fma(fma(cos0, z, cos1), z, cos2) * z) * z - f32(z * 0.5)) + 1)
    const s = fma(f32(fma(fma(sin0, z, sin1), z, sin2) * z), x, x)
    const swapped = (octant & 2) !== 0
    const cos = (~(octant - 2) & 4) !== 0 ? -(swapped ? s : c) : swapped ? s : c
    const sin = (octant & 4) !== 0 ? -(swapped ? c : s) : swapped ? c : s

    // The kernel adds the mean last; adding 0 turns -0 into +0.
    values[i] = f32(radius * cos) + 0
    values[i + half] = f32(radius * sin) + 0
  }
}

/** The natural logarithm of a float32 in (0, 1]. */
function log(value: number): number {
  floatView[0] = value
  const bits = bitsView[0]!
  bitsView[0] = (bits & ~0x7f800000) | 0x3f000000
  const mantissa = floatView[0]
  let exponent = (bits >>> 23) - 126
  let x = f32(mantissa - 1)
  if (mantissa < sqrtHalf) {
    exponent -= 1
    x = f32(x + mantissa)
  }
  const z = f32(x * x)
  let y = logCoefficients[0]!
  for (let k = 1; k < logCoefficients.length; k++) y = fma(y, x, logCoefficients[k]!)
  y = f32(f32(y * x) * z + f32(exponent * ln2Low))
  y = f32(y - z * 0.5)
  return fma(exponent, ln2High, f32(x + y))
}
