/**
 * Limits how many operations of one kind run at once, and for which owners: sending webhook messages, receiving pictures.
 * The places are shared first among the owners of jobs and then among the origins that an owner uses, so that an origin that never
 * answers delays only the owners that use it. Also decides how long a message that found no place should wait. Holds only counts. Runs in the api.
 *
 * Invariant: an owner gets a place only while it has fewer than are free, and for an origin only while the origin has fewer than are then left
 * for the owner. So a single owner gets half of the places and two owners a third each, and the next one always finds some free.
 */

export interface Places {
  /** Takes a place; undefined when the owner, or the origin within the owner, already has its share. Dispose of it to give it back. */
  take(owner: string, origin: string): Disposable | undefined
  /**
   * After how many milliseconds to try again: soon if answers come fast, up to a minute if they do not, because each attempt costs Redis
   * something and there may be thousands of messages.
   */
  busyDelay(owner: string, origin: string): number
}

export interface PlacesOptions {
  /** How many places there are, 2 or more. */
  total: number
  /** How many of these may go to one origin of one owner, 1 or more. */
  perOrigin: number
  /** A monotonic clock in milliseconds. Default: performance.now. */
  now?: () => number
  /** 0 up to 1. Default: Math.random. */
  random?: () => number
}

interface Use {
  count: number
  since: number
  /** How long the latest use of a place took; undefined before the first has ended. */
  latestMs: number | undefined
}

const [minDelayMs, maxDelayMs] = [500, 60_000]

export function createPlaces({ total, perOrigin, now = () => performance.now(), random = Math.random }: PlacesOptions): Places {
  // The entry of an owner, or of its origin, is removed when its last place is given back.
  const uses = new Map<string, Use>()
  let taken = 0
  const originKey = (owner: string, origin: string): string => `${owner} ${origin}`
  const useOf = (key: string): Use => uses.get(key) ?? { count: 0, since: now(), latestMs: undefined }
  const lastedMs = (key: string): number => {
    const use = uses.get(key)
    return use === undefined ? 0 : (use.latestMs ?? now() - use.since)
  }
  return {
    take(owner, origin) {
      const keys = [owner, originKey(owner, origin)] as const
      const [ofOwner, ofOrigin] = keys.map(useOf) as [Use, Use]
      const left = total - taken - ofOwner.count
      if (ofOrigin.count >= Math.min(left, perOrigin)) return undefined
      taken++
      const takenAt = now()
      for (const [i, use] of [ofOwner, ofOrigin].entries()) {
        use.count++
        uses.set(keys[i] ?? '', use)
      }
      return {
        [Symbol.dispose]() {
          taken--
          for (const [i, use] of [ofOwner, ofOrigin].entries()) {
            use.count--
            use.latestMs = now() - takenAt
            if (use.count === 0) uses.delete(keys[i] ?? '')
          }
        },
      }
    },

    busyDelay(owner, origin) {
      const durationMs = Math.max(lastedMs(owner), lastedMs(originKey(owner, origin)))
      return Math.min(maxDelayMs, minDelayMs + random() * (minDelayMs + 4 * durationMs))
    },
  }
}
