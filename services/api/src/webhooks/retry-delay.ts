/**
 * When a message that was not delivered is tried again: a table of delays, lengthened by a small random amount so that a recovering receiver
 * does not get everything at once, and never earlier than the receiver itself asked for. Pure. Runs in the api.
 */

/** The seconds before each attempt, including the first; about three days in all. */
export const defaultRetryDelays = '0,5,300,1800,7200,18000,36000,50400,72000,86400'

/** The longest time for which a receiver may postpone a message with one answer. */
const maxRetryAfterMs = 24 * 3600 * 1000
const jitter = 0.2

export interface RetryDelayOptions {
  /** The seconds before each attempt; entry 0 is the wait before the first. */
  delays: readonly number[]
  /** The number of attempts so far, 1 or more. */
  attemptsMade: number
  /** The wait that the receiver asked for in milliseconds; undefined when it did not. */
  retryAfterMs?: number | undefined
  /** 0 up to 1. Default: Math.random. */
  random?: () => number
}

/** The milliseconds until the next attempt; undefined when the last one has been made. */
export function nextRetryDelay({ delays, attemptsMade, retryAfterMs = 0, random = Math.random }: RetryDelayOptions): number | undefined {
  const seconds = delays[attemptsMade]
  if (seconds === undefined) return undefined
  return Math.round(Math.max(seconds * 1000 * (1 + jitter * random()), Math.min(retryAfterMs, maxRetryAfterMs)))
}

/** The milliseconds from a `Retry-After` header, which contains seconds or a date; undefined when it contains neither. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  if (/^\s*\d{1,9}\s*$/.test(header)) return Number(header) * 1000
  const date = Date.parse(header)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}
