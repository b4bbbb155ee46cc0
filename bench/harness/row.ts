/**
 * What a row of the benchmark table is, and how a measured value meets its target. Types and pure functions.
 *
 * A row claims one or more ratios. Both sides of a ratio are measured in the same run, in short slots that take turns, so that other work on
 * the machine affects both. The value is the median of the ratios of all rounds.
 */
interface RunOptions {
  /** The number of rounds, from 1. Each round measures every side once. */
  readonly pairs: number
}

interface Claim {
  /** What is compared, in a few words. */
  readonly name: string
  /** `>= NUMBER` or `<= NUMBER`. */
  readonly target: string
}

export interface Measured {
  readonly value: number
  /** The first and the third quartile over the rounds. */
  readonly quartiles: readonly [number, number]
}

export interface RowResult {
  /** One for each claim, in the order of the claims. */
  readonly measured: readonly Measured[]
  /** Numbers that are printed beside the claim: a name, and a value with its unit. */
  readonly controls: Readonly<Record<string, string>>
}

export interface Row {
  readonly id: number
  readonly claims: readonly Claim[]
  /** What the controls show. */
  readonly controls: string
  run(options: RunOptions): Promise<RowResult>
}

export function isMet(target: string, value: number): boolean {
  const match = /^(>=|<=) (\d+(?:\.\d+)?)$/.exec(target)
  if (match === null) throw new Error(`Expected a target like ">= 0.95", got "${target}"`)
  const limit = Number(match[2])
  return match[1] === '>=' ? value >= limit : value <= limit
}
