/** One reading at a time, however many ask: what costs Redis much is read at most once a second by a process. Knows nothing of what is read. */

/** Milliseconds that a reading is told, from when it is there. */
const keptMs = 1000

/** `now`: clock, ms since the epoch. A reading that fails is for those alone who waited for it. */
export function keepReading<T>(read: () => Promise<T>, now: () => number): () => Promise<T> {
  let latest: { reading: Promise<T>; until: number } | undefined
  return async () => {
    if (latest === undefined || now() > latest.until) {
      const kept = { reading: read(), until: Number.POSITIVE_INFINITY }
      latest = kept
      kept.reading.then(
        () => (kept.until = now() + keptMs),
        () => (kept.until = 0),
      )
    }
    return await latest.reading
  }
}
