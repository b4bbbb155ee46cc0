/**
 * How much of the device each owner has had, for the policy `fair`: start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996) of rows among
 * owners. The unit is milliseconds of device time divided by the owner's weight.
 *
 * Invariant: no owner's time is behind the clock, which is the time of the owner served last, so an owner that had no rows waiting has not
 * saved anything up. Knows nothing about rows or shapes. Runs in the engine process.
 */

export class ServedTimes {
  readonly #times = new Map<string, number>()
  #clockMs = 0

  of(owner: string): number {
    return Math.max(this.#times.get(owner) ?? 0, this.#clockMs)
  }

  /** Call when an owner's turn has come. */
  advance(owner: string): void {
    this.#clockMs = this.of(owner)
    for (const [name, time] of this.#times) if (time <= this.#clockMs) this.#times.delete(name)
  }

  add(owner: string, weight: number, deviceMs: number): void {
    this.#times.set(owner, this.of(owner) + deviceMs / weight)
  }
}
