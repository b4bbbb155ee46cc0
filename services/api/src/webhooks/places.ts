/**
 * Who may send a webhook message now: the places of one process are shared by the owners of jobs first, then by the origins that an owner
 * sends to, so that receivers that never answer keep waiting those who named them, and nobody else. And how long to leave a message alone
 * that found no place. Holds counts only. Runs in the api.
 *
 * Invariant: an owner takes a place only while it has fewer than are free, and for an origin only while that has fewer than are then left to
 * the owner. One owner alone so gets half of the places, two a third each, and whoever comes next finds some free at once.
 */

export interface Places {
  /** Takes a place; undefined when the owner, or the origin among the owner's, has its share already. Dispose of it to give it back. */
  take(owner: string, origin: string): Disposable | undefined
  /**
   * Milliseconds after which to look again: soon where answers come fast, up to a minute where they do not, since each look costs Redis
   * something and there may be thousands of messages.
   */
  busyDelay(owner: string, origin: string): number
}

export interface PlacesOptions {
  /** Messages sent at a time, 2 or more. */
  total: number
  /** Of these, to one origin of one owner, 1 or more. */
  perOrigin: number
  /** Milliseconds of any steady clock. Default: performance.now. */
  now?: () => number
  /** 0 up to 1. Default: Math.random. */
  random?: () => number
}

interface Use {
  count: number
  since: number
  /** What the latest message took; undefined before the first has gone. */
  latestMs: number | undefined
}

const [minDelayMs, maxDelayMs] = [500, 60_000]

export function createPlaces({ total, perOrigin, now = () => performance.now(), random = Math.random }: PlacesOptions): Places {
  // An owner, and an origin of an owner, is forgotten when nothing is being sent for it.
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
