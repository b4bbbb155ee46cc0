/**
 * How many requests may have an input picture in memory at a time, in one process: bytes being received, fetched, decoded and stored. Places
 * are shared among owners, so that a client that sends slowly, or names URLs that answer slowly, does not keep others waiting. Runs in the
 * api.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ProblemError } from '@easel/contract'
import { createPlaces } from '../places.ts'

/** Each request takes up to twice MAX_INPUT_BYTES. With the default an api stays below 512 MiB (measured: bench/README.md). */
const total = 6
const places = createPlaces({ total, perOrigin: total })
/** The time between two attempts to get a place, and the time after which to give up, in milliseconds. */
const [lookMs, longestMs] = [25, 30_000]

/** Throws `rate_limited` when the owner gets no place for too long. */
export async function withPlace<Result>(owner: string, act: () => Promise<Result>): Promise<Result> {
  const until = performance.now() + longestMs
  for (;;) {
    using place = places.take(owner, '')
    if (place !== undefined) return await act()
    if (performance.now() > until) {
      throw new ProblemError('rate_limited', 'Other pictures of yours are still being received.', { retryAfterSeconds: 5 })
    }
    await sleep(lookMs)
  }
}
