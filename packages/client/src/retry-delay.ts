/** How long to wait before a request is sent once more. */

/** Milliseconds before the first retry when the service has not said how long; doubled with each further one. */
const firstDelayMs = 500
const maxDelayMs = 8000
/** The longest pause that the service is granted; if it wants more it is asked again after this. */
const maxRetryAfterMs = 60_000

/**
 * `failures`: attempts that have failed in a row, 1 or more. `retryAfterSeconds`: what the service asked for. Callers that failed together come
 * back spread over time, and none before the service wants them. `random`: from 0 to below 1.
 */
export function retryDelayMs(failures: number, retryAfterSeconds: number | undefined, random = Math.random()): number {
  if (retryAfterSeconds !== undefined) return Math.min(retryAfterSeconds * 1000, maxRetryAfterMs) * (1 + random / 4)
  return Math.min(firstDelayMs * 2 ** (failures - 1), maxDelayMs) * (0.5 + random / 2)
}
