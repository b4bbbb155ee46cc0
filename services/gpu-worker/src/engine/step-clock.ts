/**
 * What a step costs here, measured while it happens: the time in which at least one call was running, over the steps of all calls.
 *
 * Calls that share a run of the transformer share its cost, so the number says how fast work is done, not how long one call waits. Old
 * measurements fade: the last few hundred steps decide.
 */
const KEPT = 0.99

export class StepClock {
  #active = 0
  #sinceMs = 0
  #busyMs = 0
  #steps = 0

  /** Milliseconds of one step of one default-sized image; null before the first. */
  get stepMs(): number | null {
    return this.#steps === 0 ? null : this.#busyMs / this.#steps
  }

  /** A call begins. */
  enter(): void {
    if (this.#active++ === 0) this.#sinceMs = performance.now()
  }

  /** A call has made a step worth so many steps of one default-sized image. */
  count(steps: number): void {
    this.#lap()
    this.#busyMs *= KEPT
    this.#steps = this.#steps * KEPT + steps
  }

  /** A call has ended. */
  leave(): void {
    this.#active--
  }

  #lap(): void {
    const now = performance.now()
    this.#busyMs += now - this.#sinceMs
    this.#sinceMs = now
  }
}
