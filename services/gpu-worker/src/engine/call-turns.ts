/**
 * Which calls may be in the engine together: any number of ordinary calls, or one exclusive call and nothing else.
 *
 * Invariant: a waiting exclusive call goes before waiting ordinary ones, so that calls suspected of a crash are tried at once and one at a time.
 * A turn is given back exactly once. Knows nothing about what a call does.
 */
interface Waiting {
  exclusive: boolean
  begin: () => void
}

export class CallTurns {
  #running = 0
  #exclusive = false
  readonly #waiting: Waiting[] = []

  /** Resolves when it is this call's turn, to a function that ends the turn. Rejects with the signal's reason if the signal aborts first. */
  async take(exclusive: boolean, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted()
    if (this.#mayBegin(exclusive) && !this.#waiting.some((other) => other.exclusive)) return this.#begin(exclusive)
    return await new Promise<() => void>((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        this.#admit()
        reject(signal?.reason as Error)
      }
      const entry: Waiting = {
        exclusive,
        begin: () => {
          signal?.removeEventListener('abort', leave)
          resolve(this.#begin(exclusive))
        },
      }
      this.#waiting.push(entry)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #mayBegin(exclusive: boolean): boolean {
    return !this.#exclusive && (!exclusive || this.#running === 0)
  }

  #begin(exclusive: boolean): () => void {
    this.#running++
    this.#exclusive = exclusive
    let ended = false
    return () => {
      if (ended) return
      ended = true
      this.#running--
      this.#exclusive = false
      this.#admit()
    }
  }

  #admit(): void {
    for (;;) {
      const next = this.#waiting.find((entry) => entry.exclusive) ?? this.#waiting[0]
      if (next === undefined || !this.#mayBegin(next.exclusive)) return
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      next.begin()
    }
  }
}
