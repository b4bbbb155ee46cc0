/**
 * What a step with a given number of rows costs on this machine, learnt from the steps themselves, and how many rows a step should have.
 *
 * For each size of row the profile keeps the latest times at each number of rows. It tries 1, 2, 4, 8 … rows as soon as that many wait, as
 * often as it takes to know their cost, and stops going up where a row hardly gets cheaper. It then chooses the knee: the fewest rows at
 * which a row costs at most 5 % more than the cheapest. Where batching does not pay, the knee is 1 and the policy decides who goes first.
 * From time to time the numbers of rows next to the knee are measured again, because the load of a machine changes. After memory has run
 * out in a step, steps of that size stay at half the rows and grow again by doublings while memory lasts. After something other than a
 * step has found no memory, steps of every size stay below a limit of work (work-limit.ts).
 *
 * A size that has not been measured begins with one row, and each doubling is tried only after five steps at the number before. Until then
 * its cost is derived from another size, in proportion to the work. While nothing has been measured at all, the cost is the work itself,
 * which is enough to put requests of different sizes in order.
 * Invariant: no number of rows is ever assumed to be good; each comes from a measurement on this machine, a new one or a cached one.
 * Knows nothing about rows' content, policies or files. Runs in the engine process.
 */
import { LRUCache } from 'lru-cache'
import { WorkLimit } from './work-limit.ts'

/** How long a step takes, in milliseconds, by number of rows. */
export type StepTimes = Record<number, number>

export interface BatchProfileOptions {
  /** Upper limit of rows in a step, from 1. Fewer are chosen where fewer are as good. Default none. */
  readonly maxRows?: number | undefined
}

interface Sample {
  /** The latest step times in milliseconds, oldest first. */
  readonly timesMs: number[]
  /** How many steps of this size there had been when it was last measured. */
  measuredAtStep: number
}

interface SizeProfile {
  readonly samples: Map<number, Sample>
  steps: number
  /** Numbers of rows whose first step is over. The first step is not measured, because ONNX Runtime plans its memory during it. */
  readonly planned: Set<number>
  /** The work of a row, in the caller's unit; undefined until a cost has been asked for. */
  work: number | undefined
  /** The limit set when memory ran out, and the number of steps before that; undefined when it never has. */
  shortage: { readonly rows: number; readonly atStep: number } | undefined
}

/** How many measurements of one number of rows are kept; their lower quartile counts. */
const keptTimes = 9
/** After this many measurements the cost of a number of rows counts as known. */
const enoughTimes = 4
/** A row that costs at most this many times the cheapest counts as equally cheap. */
const tolerance = 1.05
/**
 * A doubling must make a row cheaper by this factor. The search ends after two doublings that do not, because on some devices the cost falls
 * in jumps. It also ends at one that makes a row more expensive, since more rows would only take more memory.
 */
const leastGain = 1.03
/** After this many steps without a shortage of memory, twice the rows are tried again. */
const recoverySteps = 400
/** For how many sizes times are kept; the least recently used is dropped first. */
const keptSizes = 64
/** After how many steps a number of rows is measured again: next to the knee, and farther away from it. */
const staleSteps = { near: 50, far: 400 }

export class BatchProfile {
  /** The most rows that a step may have, as set by the user. */
  readonly maxRows: number
  /** By size; the least recently used are dropped. */
  readonly sizes = new LRUCache<string, SizeProfile>({ max: keptSizes })
  /** Holds for steps of all sizes. */
  readonly workLimit = new WorkLimit()

  constructor({ maxRows = Infinity }: BatchProfileOptions = {}) {
    if (!(maxRows >= 1)) throw new RangeError(`Expected maxRows from 1 up, got ${maxRows}`)
    this.maxRows = Math.floor(maxRows)
  }

  /** How many of `waiting` rows the next step of this size should take, from 1. */
  rowsFor(size: string, waiting: number): number {
    const most = Math.max(1, Math.min(waiting, this.mostRows(size)))
    return this.toMeasure(size, most) ?? this.upToKnee(size, most)
  }

  /**
   * The knee, or all waiting rows if they are only a few more and cost no more each: otherwise the few rows beyond the knee would need a step
   * of their own, in which a row is expensive.
   */
  upToKnee(size: string, most: number): number {
    const knee = this.knee(size)
    if (most <= knee || most >= knee * 2) return Math.min(most, knee)
    const above = this.knownCosts(size).find(({ rows }) => rows >= most)
    const isAsGood = above !== undefined && above.rowMs <= (this.cheapestRowMs(size) as number) * tolerance
    return isAsGood ? most : knee
  }

  /** Records the time of a step. */
  observe(size: string, rows: number, ms: number): void {
    const profile = this.profileOf(size)
    this.sizes.set(size, profile)
    profile.steps++
    this.workLimit.observeStep(rows * (profile.work ?? 0))
    if (!profile.planned.has(rows)) {
      profile.planned.add(rows)
      return
    }
    let sample = profile.samples.get(rows)
    if (sample === undefined) profile.samples.set(rows, (sample = { timesMs: [], measuredAtStep: 0 }))
    sample.timesMs.push(ms)
    if (sample.timesMs.length > keptTimes) sample.timesMs.shift()
    sample.measuredAtStep = profile.steps
  }

  /** Something other than a step found no memory. */
  observeUnitShortage(): void {
    this.workLimit.observeShortage()
  }

  /** Memory ran out in a step with this many rows. */
  observeShortage(size: string, rows: number): void {
    const profile = this.profileOf(size)
    profile.shortage = { rows: Math.ceil(rows / 2), atStep: profile.steps }
  }

  /** The most rows that a step of this size may have. */
  mostRows(size: string): number {
    const { shortage, steps, work } = this.profileOf(size)
    const withinWork = work === undefined ? Infinity : Math.max(1, Math.floor(this.workLimit.work / work))
    const most = Math.min(this.maxRows, withinWork)
    return shortage === undefined ? most : Math.min(most, shortage.rows * 2 ** Math.floor((steps - shortage.atStep) / recoverySteps))
  }

  /** The number of rows beyond which a row gets no cheaper, as far as is known; the limit while the largest number tried is the cheapest. */
  knee(size: string): number {
    const known = this.knownCosts(size)
    const cheapest = Math.min(...known.map(({ rowMs }) => rowMs))
    const knee = known.find(({ rowMs }) => rowMs <= cheapest * tolerance)
    return knee === undefined || knee === known.at(-1) ? this.mostRows(size) : knee.rows
  }

  /**
   * Device time of one row at the knee, in milliseconds. `work`: the work of a row in any unit, the same for all sizes. For a size that has not
   * been measured, the cost of another is scaled by it.
   */
  rowMs(size: string, work: number): number {
    this.profileOf(size).work = work
    const own = this.cheapestRowMs(size)
    if (own !== undefined) return own
    for (const other of this.sizes.rkeys()) {
      const { work: otherWork } = this.profileOf(other)
      const rowMs = this.cheapestRowMs(other)
      if (rowMs !== undefined && otherWork !== undefined) return (rowMs * work) / otherWork
    }
    return work
  }

  /** The time of a step with exactly this many rows, in milliseconds; undefined while it is not known. */
  stepMs(size: string, rows: number): number | undefined {
    const timesMs = this.profileOf(size).samples.get(rows)?.timesMs ?? []
    return timesMs.length < enoughTimes ? undefined : typical(timesMs)
  }

  /** Everything that is known, for a file or a status page. */
  toTimes(): Record<string, StepTimes> {
    const entries = [...this.sizes.rkeys()].map((size): [string, StepTimes] => [
      size,
      Object.fromEntries(
        [...this.profileOf(size).samples]
          .filter(([, { timesMs }]) => timesMs.length >= enoughTimes)
          .map(([rows, { timesMs }]) => [rows, typical(timesMs)]),
      ),
    ])
    return Object.fromEntries(entries.filter(([, times]) => Object.keys(times).length > 0))
  }

  /** Adopts what an earlier process has measured; this process's own measurements take precedence. */
  restore(times: Readonly<Record<string, StepTimes>>): void {
    for (const [size, known] of Object.entries(times)) {
      const profile = this.profileOf(size)
      for (const [rows, ms] of Object.entries(known)) {
        if (profile.samples.has(Number(rows))) continue
        profile.samples.set(Number(rows), { timesMs: Array.from({ length: enoughTimes }, () => ms), measuredAtStep: profile.steps })
      }
    }
  }

  profileOf(size: string): SizeProfile {
    const known = this.sizes.peek(size)
    if (known !== undefined) return known
    const profile: SizeProfile = { samples: new Map(), steps: 0, planned: new Set(), work: undefined, shortage: undefined }
    this.sizes.set(size, profile)
    return profile
  }

  /** A number of rows, at most `most`, whose cost is worth measuring; undefined when all costs are known. */
  toMeasure(size: string, most: number): number | undefined {
    const profile = this.profileOf(size)
    const knee = this.knee(size)
    let cheapest = Infinity
    let flat = 0
    for (let rows = 1; rows <= most; rows *= 2) {
      const sample = profile.samples.get(rows)
      if (sample === undefined || sample.timesMs.length < enoughTimes) return rows
      const isNear = rows * 2 >= knee && rows <= knee * 2
      if (profile.steps - sample.measuredAtStep > (isNear ? staleSteps.near : staleSteps.far)) return rows
      const rowMs = typical(sample.timesMs) / rows
      if (rowMs > cheapest * tolerance) return undefined
      flat = rowMs > cheapest / leastGain ? flat + 1 : 0
      if (flat === 2) return undefined
      cheapest = Math.min(cheapest, rowMs)
    }
    return undefined
  }

  cheapestRowMs(size: string): number | undefined {
    const costs = this.knownCosts(size).map(({ rowMs }) => rowMs)
    return costs.length === 0 ? undefined : Math.min(...costs)
  }

  /** The cost of a row by number of rows, fewest rows first. */
  knownCosts(size: string): { rows: number; rowMs: number }[] {
    const most = this.mostRows(size)
    return [...this.profileOf(size).samples]
      .filter(([rows, { timesMs }]) => timesMs.length >= enoughTimes && rows <= most)
      .map(([rows, { timesMs }]) => ({ rows, rowMs: typical(timesMs) / rows }))
      .sort((a, b) => a.rows - b.rows)
  }
}

/** The lower quartile, because other work on the machine can only make a step longer. */
function typical(timesMs: readonly number[]): number {
  const sorted = [...timesMs].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 4)] as number
}
