/**
 * Bounds how many messages one process sends to the same origin at a time, so that a receiver that never answers occupies a few of the
 * places and not all of them. Holds counts only. Runs in the api.
 */

export interface HostSlots {
  /** Takes a place of the origin; undefined when all are taken. Dispose of it to give the place back. */
  take(origin: string): Disposable | undefined
}

/** `perOrigin`: places of each origin, 1 or more. */
export function createHostSlots(perOrigin: number): HostSlots {
  const taken = new Map<string, number>()
  return {
    take(origin) {
      const count = taken.get(origin) ?? 0
      if (count >= perOrigin) return undefined
      taken.set(origin, count + 1)
      return {
        [Symbol.dispose]() {
          const left = (taken.get(origin) ?? 1) - 1
          if (left > 0) taken.set(origin, left)
          else taken.delete(origin)
        },
      }
    },
  }
}
