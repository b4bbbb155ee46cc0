/** Waiting with a time limit. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until `work` has settled, but no longer than this many milliseconds. Resolves to whether it has settled. */
export async function settle(work: Promise<unknown>, mostMs: number): Promise<boolean> {
  const timer = new AbortController()
  const ended = work.then(
    () => true,
    () => true,
  )
  const late = sleep(mostMs, false, { signal: timer.signal }).catch(() => false)
  return await Promise.race([ended, late]).finally(() => timer.abort())
}
