/** One reading at a time for all callers: what is expensive for Redis is read at most once a second by each process. */

/** For how many milliseconds a finished reading is returned again. */
const keptMs = 1000

/** `now`: clock, ms since the epoch. A reading that fails rejects only for the callers that waited for it. */
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
