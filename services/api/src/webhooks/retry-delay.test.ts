import { describe, expect, test } from 'vitest'
import { defaultRetryDelays, nextRetryDelay, parseRetryAfter } from './retry-delay.ts'

const delays = defaultRetryDelays.split(',').map(Number)

describe('the delay of an attempt', () => {
  test('is none for the first, and spreads nine more over about three days', () => {
    expect(delays[0]).toBe(0)
    const waits = delays.map((_, made) => nextRetryDelay({ delays, attemptsMade: made + 1, random: () => 0 }))
    expect(waits).toEqual([5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400].map((s) => s * 1000).concat([undefined as never]))
  })

  test('is lengthened at random by up to a fifth', () => {
    expect(nextRetryDelay({ delays, attemptsMade: 1, random: () => 1 })).toBe(6000)
  })

  test('can be lengthened by the receiver, to a day at most, but not shortened', () => {
    const next = (retryAfterMs: number) => nextRetryDelay({ delays, attemptsMade: 1, retryAfterMs, random: () => 0 })
    expect([next(60_000), next(1000), next(1e12)]).toEqual([60_000, 5000, 86_400_000])
  })

  test('does not exist after the last attempt of the table, even if the receiver asks for more time', () => {
    expect(nextRetryDelay({ delays, attemptsMade: 10, retryAfterMs: 1000 })).toBeUndefined()
  })

  test('is read from Retry-After in seconds or as a date, and anything else is ignored', () => {
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
