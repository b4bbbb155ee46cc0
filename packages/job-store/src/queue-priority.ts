/**
 * Turns a job's priority and age into BullMQ's priority, a number that never has to change while the job waits.
 *
 * With ageing, the first of two waiting jobs is the one whose priority plus the worth of its waiting time is higher. Both age at the same
 * speed, so their order never changes with time, and sorting by "creation time minus the worth of the priority" orders them once and for
 * all. Nothing starves: a job of priority -10 waits at most for those of priority 10 that were created up to 20 × 600 seconds after it.
 * Knows nothing about Redis. Runs in the api.
 */

/** How much waiting time one level of priority is worth, in seconds. */
export const secondsPerPriorityLevel = 600
/** Jobs with the same priority that are created within the same period of this many seconds run in the order in which they were queued. */
const bucketSeconds = 300
/** BullMQ accepts 1 to 2^21 - 1. With these periods that lasts until 2045, when all waiting jobs would become equal. */
export const maxQueuePriority = 2 ** 21 - 1
const epochMs = Date.UTC(2026, 0, 1)

/** BullMQ's priority for a job. Lower goes first; it is never 0, which would go before every other. */
export function toQueuePriority({ priority, createdAt }: { priority: number; createdAt: number }): number {
  const bucket = Math.floor((createdAt - epochMs) / 1000 / bucketSeconds) - (priority * secondsPerPriorityLevel) / bucketSeconds
  // The first periods are left free to leave room for a head start of 10 levels.
  return Math.min(maxQueuePriority, Math.max(1, bucket + 100))
}
