import { expect, test } from 'vitest'
import { betaSigmas, exponentialSigmas, karrasSigmas, linspace, symmetricBetaQuantile } from './sigma-spacing.ts'

test('linspace ends exactly at its end, and one value is the first', () => {
  expect(linspace(1, 0.1, 7).at(-1)).toBe(0.1)
  expect([...linspace(3, 9, 1)]).toEqual([3])
})

test.for([
  ['karras', karrasSigmas],
  ['exponential', exponentialSigmas],
  ['beta', betaSigmas],
] as const)('%s spacing falls from the highest level to the lowest', ([, spacing]) => {
  const sigmas = spacing(0.9, 0.01, 9)
  expect(sigmas).toHaveLength(9)
  expect(sigmas[0]).toBeCloseTo(0.9, 12)
  expect(sigmas[8]).toBeCloseTo(0.01, 12)
  for (let i = 1; i < 9; i++) expect(sigmas[i]).toBeLessThan(sigmas[i - 1]!)
})

test('with shape 0.5 the quantile is that of the arcsine distribution', () => {
  for (let i = 0; i <= 40; i++) {
    expect(symmetricBetaQuantile(i / 40, 0.5)).toBeCloseTo(Math.sin((Math.PI / 2) * (i / 40)) ** 2, 12)
  }
})

test('with shape 1 the quantile is the probability itself', () => {
  for (let i = 0; i <= 40; i++) expect(symmetricBetaQuantile(i / 40, 1)).toBeCloseTo(i / 40, 12)
})
