/** What is printed: a table for people and, last, one line of JSON for programs. Pure except that it reads the commit and the machine. */
import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { isMet } from './row.ts'
import type { Row, RowResult } from './row.ts'

export interface ReportedRow {
  readonly id: number
  readonly name: string
  readonly value: number
  readonly quartiles: readonly [number, number]
  readonly target: string
  readonly met: boolean
}

export function toReported({ id, claims }: Row, { measured }: RowResult): ReportedRow[] {
  return claims.map(({ name, target }, index) => {
    const { value, quartiles } = measured[index] ?? { value: Number.NaN, quartiles: [Number.NaN, Number.NaN] }
    const rounded = round(value)
    return { id, name, value: rounded, quartiles: [round(quartiles[0]), round(quartiles[1])], target, met: isMet(target, rounded) }
  })
}

/** The rows of a Markdown table. */
export function toTableLines(rows: readonly ReportedRow[]): string[] {
  const head = ['| # | measured | median | quartiles | target | |', '|--:|---|--:|---|---|---|']
  const body = rows.map(
    ({ id, name, value, quartiles, target, met }) =>
      `| ${id} | ${name} | ${value} | ${quartiles.join(' – ')} | ${target} | ${met ? 'met' : '**missed**'} |`,
  )
  return [...head, ...body]
}

export function toJsonLine(rows: readonly ReportedRow[]): string {
  return JSON.stringify({ commit: readCommit(), hardware: describeHardware(), rows })
}

/** The short hash, followed by `+` when tracked files have changed since. */
export function readCommit(): string {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+')
  } catch {
    return 'unknown'
  }
}

export function describeHardware(): string {
  const [cpu] = cpus()
  return `${availableParallelism()} cores of ${cpu?.model.trim() ?? process.arch}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`
}

/** The load of the machine over the last minute, including this process. */
export function describeLoad(): string {
  return `load average ${(loadavg()[0] ?? 0).toFixed(1)}`
}

/** The number rounded to four significant digits. */
function round(value: number): number {
  return Number(value.toPrecision(4))
}
