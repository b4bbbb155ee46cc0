/**
 * Ways to space noise levels between a highest and a lowest one, in double precision.
 *
 * Invariant: there are `steps` values, of which the first is sigmaMax and the last sigmaMin, up to rounding.
 * Knows nothing about shifting or samples. Runs in the engine process.
 *
 * Source of the formulas: diffusers scheduling_flow_match_euler_discrete.py@58eb52c.
 */

/** The exponent chosen by Karras et al., "Elucidating the design space of diffusion-based generative models" (2022). */
const karrasRho = 7
/** Both shape parameters of the beta distribution in Lee et al., "Beta sampling is all you need" (2024). */
const betaShape = 0.6

/** `steps` values from `first` to `last`, computed in numpy.linspace's order of operations. */
export function linspace(first: number, last: number, steps: number): Float64Array {
  const stride = (last - first) / (steps - 1)
  // With a single value the stride is not finite, and that value is the first.
  return Float64Array.from({ length: steps }, (_, i) => (i === 0 ? first : i === steps - 1 ? last : i * stride + first))
}

export function karrasSigmas(sigmaMax: number, sigmaMin: number, steps: number): Float64Array {
  const first = sigmaMax ** (1 / karrasRho)
  const last = sigmaMin ** (1 / karrasRho)
  return linspace(0, 1, steps).map((ramp) => (first + ramp * (last - first)) ** karrasRho)
}

export function exponentialSigmas(sigmaMax: number, sigmaMin: number, steps: number): Float64Array {
  return linspace(Math.log(sigmaMax), Math.log(sigmaMin), steps).map(Math.exp)
}

export function betaSigmas(sigmaMax: number, sigmaMin: number, steps: number): Float64Array {
  return linspace(0, 1, steps).map((ramp) => sigmaMin + symmetricBetaQuantile(1 - ramp, betaShape) * (sigmaMax - sigmaMin))
}

/** The point, 0 to 1, at which the Beta(shape, shape) distribution reaches the probability; accurate to 1e-12. */
export function symmetricBetaQuantile(probability: number, shape: number): number {
  // The density is symmetric about 0.5: solve in the lower half, where the series below converges fast.
  if (probability > 0.5) return 1 - symmetricBetaQuantile(1 - probability, shape)
  const target = probability * 2 * incompleteBeta(0.5, shape)
  let low = 0
  let high = 0.5
  // Halving ends when no double lies between the two.
  for (;;) {
    const middle = (low + high) / 2
    if (middle === low || middle === high) return low
    if (incompleteBeta(middle, shape) <= target) low = middle
    else high = middle
  }
}

/** The integral of (t (1 - t))^(shape - 1) from 0 to x <= 0.5, term by term over the binomial series of (1 - t)^(shape - 1). */
function incompleteBeta(x: number, shape: number): number {
  let coefficient = 1
  let sum = 0
  for (let n = 0; ; n++) {
    const term = coefficient / (shape + n)
    if (sum + term === sum) return x ** shape * sum
    sum += term
    coefficient *= ((n + 1 - shape) / (n + 1)) * x
  }
}
