/**
 * What a step and a picture cost here, measured from the work itself. Of the time in which at least one call was running, the part that the
 * device spent on texts and decodings is divided by the pictures of all calls, and the rest by their steps.
 *
 * Calls that share a run of the transformer share its cost, so the numbers say how fast work is done, not how long one call waits. Old
 * measurements fade: the last few hundred decide.
 */
const keptTimes = 0.99

/** Milliseconds, and what was done in them. */
interface Spent {
  ms: number
  count: number
}

export class StepClock {
  readonly #unitMs: () => number
  #active = 0
  #sinceMs = 0
  #unitSinceMs = 0
  readonly #steps: Spent = { ms: 0, count: 0 }
  readonly #pictures: Spent = { ms: 0, count: 0 }

  /** `unitMs`: milliseconds that the device has spent on texts and decodings so far. */
  constructor(unitMs: () => number) {
    this.#unitMs = unitMs
  }

  /** Milliseconds of one guided step of one default-sized image; null before the first. */
  get stepMs(): number | null {
    return toMean(this.#steps)
  }

  /** Milliseconds to encode the texts of one default-sized image and to decode it; null before the first. */
  get pictureMs(): number | null {
    return toMean(this.#pictures)
  }

  /** Call when a call begins. */
  enter(): void {
    if (this.#active++ > 0) return
    this.#sinceMs = performance.now()
    this.#unitSinceMs = this.#unitMs()
  }

  /** A call has made a step that is worth this many guided steps of one default-sized image. */
  count(steps: number): void {
    this.#lap()
    count(this.#steps, steps)
  }

  /** A call has ended, with pictures that are worth this many default-sized ones; 0 if it failed. */
  leave(pictures: number): void {
    this.#lap()
    this.#active--
    if (pictures > 0) count(this.#pictures, pictures)
  }

  #lap(): void {
    const now = performance.now()
    const unitMs = this.#unitMs()
    const unit = unitMs - this.#unitSinceMs
    this.#pictures.ms += unit
    this.#steps.ms += Math.max(0, now - this.#sinceMs - unit)
    this.#sinceMs = now
    this.#unitSinceMs = unitMs
  }
}

/** Counts what has been done in the time before; both sums fade by the same factor. */
function count(spent: Spent, more: number): void {
  spent.ms *= keptTimes
  spent.count = (spent.count + more) * keptTimes
}

function toMean({ ms, count }: Spent): number | null {
  return count === 0 ? null : ms / count
}
