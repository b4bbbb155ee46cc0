/**
 * Bounds how many messages one process sends to the same origin at a time, so that a receiver that never answers occupies a few of the
 * places and not all of them; and says how long to leave a message alone that found no place. Holds counts only. Runs in the api.
 */

export interface HostSlots {
  /** Takes a place of the origin; undefined when all are taken. Dispose of it to give the place back. */
  take(origin: string): Disposable | undefined
  /**
   * Milliseconds after which to look at a busy origin again: soon for one that answers fast, up to a minute for one that does not, since
   * each look costs Redis something and there may be thousands of messages.
   */
  busyDelay(origin: string): number
}

export interface HostSlotsOptions {
  /** Places of each origin, 1 or more. */
  perOrigin: number
  /** Milliseconds of any steady clock. Default: performance.now. */
  now?: () => number
  /** 0 up to 1. Default: Math.random. */
  random?: () => number
}

const [minDelayMs, maxDelayMs] = [500, 60_000]

export function createHostSlots({ perOrigin, now = () => performance.now(), random = Math.random }: HostSlotsOptions): HostSlots {
  // `latestMs`: what the latest message took; undefined before the first has gone. An origin is forgotten when nothing is being sent to it.
  const busy = new Map<string, { count: number; since: number; latestMs: number | undefined }>()
  return {
    take(origin) {
      const state = busy.get(origin) ?? { count: 0, since: now(), latestMs: undefined }
      if (state.count >= perOrigin) return undefined
      state.count++
      busy.set(origin, state)
      const takenAt = now()
      return {
        [Symbol.dispose]() {
          state.count--
          state.latestMs = now() - takenAt
          if (state.count === 0) busy.delete(origin)
        },
      }
    },

    busyDelay(origin) {
      const state = busy.get(origin)
      const durationMs = state === undefined ? 0 : (state.latestMs ?? now() - state.since)
      return Math.min(maxDelayMs, minDelayMs + random() * (minDelayMs + 4 * durationMs))
    },
  }
}
