import { expect, test } from 'vitest'
import { retryDelayMs } from './retry-delay.ts'

test('pauses double up to a limit, and each is between half of its length and all of it', () => {
  const shortest = [1, 2, 3, 4, 5, 6, 1000].map((failures) => retryDelayMs(failures, undefined, 0))
  expect(shortest).toEqual([250, 500, 1000, 2000, 4000, 4000, 4000])
  const longest = [1, 2, 3, 4, 5, 6, 1000].map((failures) => retryDelayMs(failures, undefined, 1))
  expect(longest).toEqual([500, 1000, 2000, 4000, 8000, 8000, 8000])
})

test('a pause is never shorter than the service asks for, at most a quarter longer, and the service can ask for a minute at most', () => {
  expect([retryDelayMs(1, 5, 0), retryDelayMs(3, 5, 1)]).toEqual([5000, 6250])
  expect([retryDelayMs(1, 0, 1), retryDelayMs(1, 3600, 0), retryDelayMs(1, 3600, 1)]).toEqual([0, 60_000, 75_000])
})
