/**
 * When a message that was not delivered is tried again: a table, stretched by a little chance so that receivers that come back are not hit
 * by everyone at once, and never earlier than the receiver itself asked for. Pure. Runs in the api.
 */

/** Seconds before each attempt, the first included: over about three days. */
export const defaultRetryDelays = '0,5,300,1800,7200,18000,36000,50400,72000,86400'

/** No receiver may put a message off for longer than this at a time. */
const maxRetryAfterMs = 24 * 3600 * 1000
const jitter = 0.2

export interface RetryDelayOptions {
  /** Seconds before each attempt; entry 0 is the wait before the first. */
  delays: readonly number[]
  /** Attempts made so far, 1 or more. */
  attemptsMade: number
  /** Milliseconds that the receiver asked for; undefined: it did not. */
  retryAfterMs?: number | undefined
  /** 0 up to 1. Default: Math.random. */
  random?: () => number
}

/** Milliseconds until the next attempt; undefined when the last has been made. */
export function nextRetryDelay({ delays, attemptsMade, retryAfterMs = 0, random = Math.random }: RetryDelayOptions): number | undefined {
  const seconds = delays[attemptsMade]
  if (seconds === undefined) return undefined
  return Math.round(Math.max(seconds * 1000 * (1 + jitter * random()), Math.min(retryAfterMs, maxRetryAfterMs)))
}

/** Milliseconds from a `Retry-After` header, which holds seconds or a date; undefined when it holds neither. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  if (/^\s*\d{1,9}\s*$/.test(header)) return Number(header) * 1000
  const date = Date.parse(header)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}
