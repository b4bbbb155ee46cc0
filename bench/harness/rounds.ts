/** Runs slots in turn and evaluates their numbers. Knows nothing about what a slot measures. */
import type { Measured } from './row.ts'

/**
 * Runs every slot once in each round. The order is rotated by one from round to round, so that no side always comes first. One more round
 * before the first is a warm-up and does not count.
 */
export async function runRounds<Name extends string>(
  rounds: number,
  slots: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number>[]> {
  const names = Object.keys(slots) as Name[]
  const results: Record<Name, number>[] = []
  for (let round = -1; round < rounds; round++) {
    const result = {} as Record<Name, number>
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round + 1) % names.length] as Name
      result[name] = await slots[name]()
    }
    if (round >= 0) results.push(result)
  }
  return results
}

/** `fraction`: 0 to 1. Between two values the result is interpolated. */
export function quantile(values: readonly number[], fraction: number): number {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * fraction
  const low = sorted[Math.floor(at)] as number
  const high = sorted[Math.ceil(at)] as number
  return low + (high - low) * (at - Math.floor(at))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export function toMeasured(values: readonly number[]): Measured {
  return { value: median(values), quartiles: [quantile(values, 0.25), quantile(values, 0.75)] }
}
