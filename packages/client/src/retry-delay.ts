/** How long to wait before a request is sent again. */

/** The milliseconds before the first retry when the service has not said how long to wait; doubled for each further one. */
const firstDelayMs = 500
const maxDelayMs = 8000
/** The longest pause, even if the service asks for a longer one. */
const maxRetryAfterMs = 60_000

/**
 * `failures`: how many attempts have failed in a row, 1 or more. `retryAfterSeconds`: what the service asked for. Callers that failed together
 * return at different times, and none earlier than the service asked for. `random`: in [0, 1).
 */
export function retryDelayMs(failures: number, retryAfterSeconds: number | undefined, random = Math.random()): number {
  if (retryAfterSeconds !== undefined) return Math.min(retryAfterSeconds * 1000, maxRetryAfterMs) * (1 + random / 4)
  return Math.min(firstDelayMs * 2 ** (failures - 1), maxDelayMs) * (0.5 + random / 2)
}
