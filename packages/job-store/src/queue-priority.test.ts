import { describe, expect, test } from 'vitest'
import { secondsPerPriorityLevel, toQueuePriority } from './queue-priority.ts'

const at = Date.UTC(2026, 10, 24, 12)
const levelMs = secondsPerPriorityLevel * 1000

describe('queue priority', () => {
  test('puts the job with the higher priority first among jobs made at the same time', () => {
    const order = [10, 1, 0, -1, -10].map((priority) => toQueuePriority({ priority, createdAt: at }))
    expect(order).toEqual(order.toSorted((a, b) => a - b))
    expect(new Set(order).size).toBe(5)
  })

  test('puts a job of the lowest priority before one of the highest that came later by more than the levels are worth', () => {
    const old = toQueuePriority({ priority: -10, createdAt: at })
    expect(old).toBeLessThan(toQueuePriority({ priority: 10, createdAt: at + 21 * levelMs }))
    expect(old).toBeGreaterThan(toQueuePriority({ priority: 10, createdAt: at + 19 * levelMs }))
  })

  test('is a whole number that BullMQ accepts, even when a clock is far off', () => {
    for (const createdAt of [0, at, Date.UTC(2026, 0, 1), Date.UTC(2100, 0, 1)]) {
      for (const priority of [-10, 0, 10]) {
        const value = toQueuePriority({ priority, createdAt })
        expect(Number.isInteger(value)).toBe(true)
        expect(value).toBeGreaterThanOrEqual(1)
        expect(value).toBeLessThanOrEqual(2_097_151)
      }
    }
  })
})
