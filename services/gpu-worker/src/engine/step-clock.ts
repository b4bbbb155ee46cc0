/**
 * What a step costs on this machine, measured while it happens: the time in which at least one call was running, divided by the steps of all
 * calls.
 *
 * Calls that share a run of the transformer share its cost, so the number says how fast work gets done, not how long one call waits. Old
 * measurements fade, and the last few hundred steps decide.
 */
const KEPT = 0.99

export class StepClock {
  #active = 0
  #sinceMs = 0
  #busyMs = 0
  #steps = 0

  /** The cost of one step of one default-sized image in milliseconds; null before the first. */
  get stepMs(): number | null {
    return this.#steps === 0 ? null : this.#busyMs / this.#steps
  }

  /** Call when a call begins. */
  enter(): void {
    if (this.#active++ === 0) this.#sinceMs = performance.now()
  }

  /** Call when a call has made a step that is worth this many steps of one default-sized image. */
  count(steps: number): void {
    this.#lap()
    this.#busyMs *= KEPT
    this.#steps = this.#steps * KEPT + steps
  }

  /** Call when a call has ended. */
  leave(): void {
    this.#active--
  }

  #lap(): void {
    const now = performance.now()
    this.#busyMs += now - this.#sinceMs
    this.#sinceMs = now
  }
}
