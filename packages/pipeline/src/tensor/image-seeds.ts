/**
 * The seeds of a request's pictures: picture i has seed + i, and equals the picture that this seed gives alone. This rule is stated only here.
 * Pure; runs in any process that uses the library.
 */
import { Generator } from './random-normal.ts'

/** A generator for each picture. `seed`: a safe integer. */
export function imageGenerators(seed: number, pictures: number): Generator[] {
  return Array.from({ length: pictures }, (_, index) => new Generator(BigInt(seed) + BigInt(index)))
}

/** The seed that gives picture `index` alone. Where a number cannot hold the sum exactly, its low 32 bits, which draw the same noise. */
export function imageSeed(seed: number, index: number): number {
  return toSafeSeed(BigInt(seed) + BigInt(index))
}

/** A seed as a number; beyond 2^53 its low 32 bits, which draw the same noise. */
export function toSafeSeed(seed: bigint): number {
  return Number(seed <= BigInt(Number.MAX_SAFE_INTEGER) ? seed : BigInt.asUintN(32, seed))
}
