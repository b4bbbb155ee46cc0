import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { StepClock } from './step-clock.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

test('the time for the texts and the decoding of a picture does not count as that of its steps, from the first step on', () => {
  let unitMs = 0
  const clock = new StepClock(() => unitMs)
  const spend = (ms: number, isUnit = false): void => {
    vi.advanceTimersByTime(ms)
    if (isUnit) unitMs += ms
  }
  expect([clock.stepMs, clock.pictureMs]).toEqual([null, null])
  // A quarter of the default size, for a step as for a picture.
  clock.enter()
  spend(40_000, true)
  spend(13_000)
  clock.count(1 / 4)
  expect(clock.stepMs).toBeCloseTo(52_000)
  expect(clock.pictureMs).toBeNull()
  spend(13_000)
  clock.count(1 / 4)
  spend(20_000, true)
  clock.leave(1 / 4)
  expect(clock.stepMs).toBeCloseTo(52_000)
  expect(clock.pictureMs).toBeCloseTo(240_000)
  // For a while there is no call, and then one that fails.
  spend(99_000)
  clock.enter()
  clock.leave(0)
  expect(clock.stepMs).toBeCloseTo(52_000)
})
