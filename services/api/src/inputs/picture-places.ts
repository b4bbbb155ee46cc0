/**
 * How many requests may have an input picture in memory at a time, in one process: bytes that are received, fetched, decoded and stored. The
 * places are shared by owner, so that whoever sends slowly, or names URLs that answer slowly, keeps nobody else waiting. Runs in the api.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ProblemError } from '@easel/contract'
import { createPlaces } from '../webhooks/places.ts'

const total = 8
const places = createPlaces({ total, perOrigin: total })
/** Between two looks for a place, and for how long to look. Milliseconds. */
const [lookMs, longestMs] = [25, 30_000]

/** Throws `rate_limited` when the owner has no place for too long. */
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
