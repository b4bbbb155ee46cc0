/** Waiting with an end. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until `work` has ended, well or not, but no longer than so many milliseconds. Resolves to whether it ended. */
export async function settle(work: Promise<unknown>, mostMs: number): Promise<boolean> {
  const timer = new AbortController()
  const ended = work.then(
    () => true,
    () => true,
  )
  const late = sleep(mostMs, false, { signal: timer.signal }).catch(() => false)
  return await Promise.race([ended, late]).finally(() => timer.abort())
}
