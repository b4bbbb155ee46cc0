import { describe, expect, test } from 'vitest'
import { defaultRetryDelays, nextRetryDelay, parseRetryAfter } from './retry-delay.ts'

const delays = defaultRetryDelays.split(',').map(Number)

describe('retry delay', () => {
  test('the first attempt is at once and nine more follow over about three days', () => {
    expect(delays[0]).toBe(0)
    const waits = delays.map((_, made) => nextRetryDelay({ delays, attemptsMade: made + 1, random: () => 0 }))
    expect(waits).toEqual([5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400].map((s) => s * 1000).concat([undefined as never]))
  })

  test('chance adds up to a fifth', () => {
    expect(nextRetryDelay({ delays, attemptsMade: 1, random: () => 1 })).toBe(6000)
  })

  test('a receiver may put the next attempt off, for a day at most, but not bring it forward', () => {
    const next = (retryAfterMs: number) => nextRetryDelay({ delays, attemptsMade: 1, retryAfterMs, random: () => 0 })
    expect([next(60_000), next(1000), next(1e12)]).toEqual([60_000, 5000, 86_400_000])
  })

  test('a receiver that asks for more time gets no more attempts than the table has', () => {
    expect(nextRetryDelay({ delays, attemptsMade: 10, retryAfterMs: 1000 })).toBeUndefined()
  })

  test('Retry-After holds seconds or a date, and anything else is ignored', () => {
    const now = Date.parse('2026-11-24T12:00:00Z')
    expect(parseRetryAfter('120', now)).toBe(120_000)
    expect(parseRetryAfter('Tue, 24 Nov 2026 12:01:00 GMT', now)).toBe(60_000)
    expect(parseRetryAfter('Tue, 24 Nov 2026 11:00:00 GMT', now)).toBe(0)
    expect([parseRetryAfter('soon', now), parseRetryAfter('', now), parseRetryAfter(undefined, now)]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
  })
})
