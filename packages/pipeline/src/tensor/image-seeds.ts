/**
 * The seeds of a request's pictures: picture i has seed + i and is the one that this seed gives alone. The only place that says so.
 * Pure; runs in any process that uses the library.
 */
import { Generator } from './random-normal.ts'

/** A generator for each picture. `seed`: a safe integer. */
export function imageGenerators(seed: number, pictures: number): Generator[] {
  return Array.from({ length: pictures }, (_, index) => new Generator(BigInt(seed) + BigInt(index)))
}

/** The seed that gives picture `index` alone. Where the sum has no exact number, its low 32 bits, which draw the same. */
export function imageSeed(seed: number, index: number): number {
  return toSafeSeed(BigInt(seed) + BigInt(index))
}

/** A seed as a number: its low 32 bits, which draw the same, where it is beyond 2^53. */
export function toSafeSeed(seed: bigint): number {
  return Number(seed <= BigInt(Number.MAX_SAFE_INTEGER) ? seed : BigInt.asUintN(32, seed))
}
