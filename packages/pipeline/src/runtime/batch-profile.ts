/**
 * What a step of so many rows costs here, learnt from the steps themselves, and how many rows a step should therefore have.
 *
 * For each size of rows the profile keeps the latest times at each number of rows. It tries 1, 2, 4, 8 … rows as often as it needs to know
 * them, as soon as that many wait, and stops going up where a row gets hardly cheaper. The choice is the knee: the fewest rows at
 * which a row costs no more than 5 % above the cheapest. Where batching does not pay that is 1, and the policy decides who goes first.
 * From time to time it looks again at the sizes next to the knee, because the load of a machine changes. Where memory has run out, steps of
 * that size stay at half the rows, and go up again by doublings as long as it does not. Where something else than a step found no memory,
 * steps of every size stay below a limit of work (work-limit.ts).
 *
 * What is not known yet: a size nobody has measured begins with one row, and each doubling is entered only after five steps at the one
 * before. Until then its cost is taken from another size, in proportion to the work; on a device that has measured nothing it is the work
 * itself, which orders requests of different sizes as well as anything can.
 * Invariant: no number of rows is ever assumed to be good; every one comes from a measurement on this machine, now or cached.
 * Knows nothing about rows' content, policies or files. Runs in the engine process.
 */

import { WorkLimit } from './work-limit.ts'

/** Milliseconds a step takes, by number of rows. */
export type StepTimes = Record<number, number>

export interface BatchProfileOptions {
  /** Upper limit of rows in a step, from 1; what is chosen stays below it where fewer are as good. Default none. */
  readonly maxRows?: number | undefined
}

interface Sample {
  /** Latest step times, milliseconds, oldest first. */
  readonly timesMs: number[]
  /** Steps of the size when it was last measured. */
  measuredAtStep: number
}

interface SizeProfile {
  readonly samples: Map<number, Sample>
  steps: number
  /** Row counts whose first step is over: the first one also pays for ONNX Runtime's planning. */
  readonly planned: Set<number>
  /** Work of a row, in the caller's unit; undefined until one has been asked for. */
  work: number | undefined
  /** Rows that were left when memory ran out, and the steps before that; undefined when it never has. */
  shortage: { readonly rows: number; readonly atStep: number } | undefined
}

/** Measurements kept of one number of rows; their lower quartile counts. */
const KEPT = 9
/** Measurements after which a number of rows is known. */
const ENOUGH = 4
/** A row that costs up to this much more than the cheapest is as good. */
const TOLERANCE = 1.05
/**
 * A doubling has to make a row cheaper by this factor. The search ends after two that do not, as cost goes in steps on some devices, and at
 * one that makes a row dearer: more rows would only take more memory.
 */
const GAIN = 1.03
/** Steps without a shortage after which twice the rows are tried again. */
const RECOVERY_STEPS = 400
/** Sizes whose times are kept; the longest unused goes first. */
const KEPT_SIZES = 64
/** Steps after which a number of rows is measured again: next to the knee, and farther away. */
const STALE_STEPS = { near: 50, far: 400 }

export class BatchProfile {
  /** Most rows a step may have, set by the user. */
  readonly maxRows: number
  readonly sizes = new Map<string, SizeProfile>()
  /** For steps of all sizes. */
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

  /** The knee, or all where little more than that waits and costs no more a row: what is left over would make a small, dear step. */
  upToKnee(size: string, most: number): number {
    const knee = this.knee(size)
    if (most <= knee || most >= knee * 2) return Math.min(most, knee)
    const above = this.knownCosts(size).find(({ rows }) => rows >= most)
    const isAsGood = above !== undefined && above.rowMs <= (this.cheapestRowMs(size) as number) * TOLERANCE
    return isAsGood ? most : knee
  }

  /** Takes in the time of a step. */
  observe(size: string, rows: number, ms: number): void {
    const profile = this.profileOf(size)
    // Set again at the end, so that the first is the longest unused.
    this.sizes.delete(size)
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
    if (sample.timesMs.length > KEPT) sample.timesMs.shift()
    sample.measuredAtStep = profile.steps
  }

  /** Something else than a step found no memory. */
  observeUnitShortage(): void {
    this.workLimit.observeShortage()
  }

  /** Memory ran out in a step of so many rows. */
  observeShortage(size: string, rows: number): void {
    const profile = this.profileOf(size)
    profile.shortage = { rows: Math.ceil(rows / 2), atStep: profile.steps }
  }

  /** Most rows that a step of this size may have. */
  mostRows(size: string): number {
    const { shortage, steps, work } = this.profileOf(size)
    const withinWork = work === undefined ? Infinity : Math.max(1, Math.floor(this.workLimit.work / work))
    const most = Math.min(this.maxRows, withinWork)
    return shortage === undefined ? most : Math.min(most, shortage.rows * 2 ** Math.floor((steps - shortage.atStep) / RECOVERY_STEPS))
  }

  /** Rows beyond which a row gets no cheaper, as far as is known: the limit as long as the most rows tried are the cheapest. */
  knee(size: string): number {
    const known = this.knownCosts(size)
    const cheapest = Math.min(...known.map(({ rowMs }) => rowMs))
    const knee = known.find(({ rowMs }) => rowMs <= cheapest * TOLERANCE)
    return knee === undefined || knee === known.at(-1) ? this.mostRows(size) : knee.rows
  }

  /**
   * Device milliseconds of one row at the knee. `work`: of a row, in any unit, the same for all sizes; it stands in for a size that is not
   * measured yet, scaled by one that is.
   */
  rowMs(size: string, work: number): number {
    this.profileOf(size).work = work
    const own = this.cheapestRowMs(size)
    if (own !== undefined) return own
    for (const [other, profile] of this.sizes) {
      const rowMs = this.cheapestRowMs(other)
      if (rowMs !== undefined && profile.work !== undefined) return (rowMs * work) / profile.work
    }
    return work
  }

  /** Milliseconds of a step of exactly so many rows; undefined while not known. */
  stepMs(size: string, rows: number): number | undefined {
    const timesMs = this.profileOf(size).samples.get(rows)?.timesMs ?? []
    return timesMs.length < ENOUGH ? undefined : typical(timesMs)
  }

  /** Everything known, for a file or a status page. */
  toTimes(): Record<string, StepTimes> {
    const entries = [...this.sizes].map(([size, { samples }]): [string, StepTimes] => [
      size,
      Object.fromEntries(
        [...samples].filter(([, { timesMs }]) => timesMs.length >= ENOUGH).map(([rows, { timesMs }]) => [rows, typical(timesMs)]),
      ),
    ])
    return Object.fromEntries(entries.filter(([, times]) => Object.keys(times).length > 0))
  }

  /** Takes in what an earlier process has measured; measurements of this one count for more. */
  restore(times: Readonly<Record<string, StepTimes>>): void {
    for (const [size, known] of Object.entries(times)) {
      const profile = this.profileOf(size)
      for (const [rows, ms] of Object.entries(known)) {
        if (profile.samples.has(Number(rows))) continue
        profile.samples.set(Number(rows), { timesMs: Array.from({ length: ENOUGH }, () => ms), measuredAtStep: profile.steps })
      }
    }
  }

  profileOf(size: string): SizeProfile {
    const known = this.sizes.get(size)
    if (known !== undefined) return known
    const profile: SizeProfile = { samples: new Map(), steps: 0, planned: new Set(), work: undefined, shortage: undefined }
    this.sizes.set(size, profile)
    for (const oldest of this.sizes.keys()) if (this.sizes.size > KEPT_SIZES) this.sizes.delete(oldest)
    return profile
  }

  /** A number of rows, at most `most`, whose cost is worth a step; undefined when all is known. */
  toMeasure(size: string, most: number): number | undefined {
    const profile = this.profileOf(size)
    const knee = this.knee(size)
    let cheapest = Infinity
    let flat = 0
    for (let rows = 1; rows <= most; rows *= 2) {
      const sample = profile.samples.get(rows)
      if (sample === undefined || sample.timesMs.length < ENOUGH) return rows
      const isNear = rows * 2 >= knee && rows <= knee * 2
      if (profile.steps - sample.measuredAtStep > (isNear ? STALE_STEPS.near : STALE_STEPS.far)) return rows
      const rowMs = typical(sample.timesMs) / rows
      if (rowMs > cheapest * TOLERANCE) return undefined
      flat = rowMs > cheapest / GAIN ? flat + 1 : 0
      if (flat === 2) return undefined
      cheapest = Math.min(cheapest, rowMs)
    }
    return undefined
  }

  cheapestRowMs(size: string): number | undefined {
    const costs = this.knownCosts(size).map(({ rowMs }) => rowMs)
    return costs.length === 0 ? undefined : Math.min(...costs)
  }

  /** Cost of a row by number of rows, fewest rows first. */
  knownCosts(size: string): { rows: number; rowMs: number }[] {
    const most = this.mostRows(size)
    return [...this.profileOf(size).samples]
      .filter(([rows, { timesMs }]) => timesMs.length >= ENOUGH && rows <= most)
      .map(([rows, { timesMs }]) => ({ rows, rowMs: typical(timesMs) / rows }))
      .sort((a, b) => a.rows - b.rows)
  }
}

/** The lower quartile: other work on the machine only ever makes a step longer. */
function typical(timesMs: readonly number[]): number {
  const sorted = [...timesMs].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 4)] as number
}
