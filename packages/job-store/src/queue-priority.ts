/**
 * Turns a job's priority and age into BullMQ's priority, a number that never has to be changed while the job waits.
 *
 * Ageing means: of two waiting jobs, the one goes first whose priority plus the worth of its waiting time is higher. Both age at the same
 * speed, so that the order of the two never changes with time, and "made at, minus what the priority is worth" sorts them once and for
 * all. Nothing starves: a job of priority -10 waits at most for those of priority 10 that were made up to 20 × 600 seconds after it.
 * Knows nothing about Redis. Runs in the api.
 */

/** What one level of priority is worth in waiting time, in seconds. */
export const secondsPerPriorityLevel = 600
/** Jobs made within the same so many seconds, with the same priority, go in the order they were queued. */
const bucketSeconds = 300
/** BullMQ takes 1 to 2^21 - 1: with these buckets enough until 2045, when all waiting jobs would become equal. */
export const maxQueuePriority = 2 ** 21 - 1
const epochMs = Date.UTC(2026, 0, 1)

/** BullMQ's priority of a job: lower goes first; never 0, which would go before every other. */
export function toQueuePriority({ priority, createdAt }: { priority: number; createdAt: number }): number {
  const bucket = Math.floor((createdAt - epochMs) / 1000 / bucketSeconds) - (priority * secondsPerPriorityLevel) / bucketSeconds
  // The first buckets are kept free, so that a head start of 10 levels has room.
  return Math.min(maxQueuePriority, Math.max(1, bucket + 100))
}
