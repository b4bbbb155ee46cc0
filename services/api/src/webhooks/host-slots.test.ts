import { describe, expect, test } from 'vitest'
import { createHostSlots } from './host-slots.ts'

describe('places of an origin', () => {
  test('are so many and no more, for each origin apart, and come back', () => {
    const slots = createHostSlots({ perOrigin: 2 })
    const [first, second] = [slots.take('a'), slots.take('a')]
    expect([first === undefined, second === undefined, slots.take('a')]).toEqual([false, false, undefined])
    expect(slots.take('b')).toBeDefined()
    first?.[Symbol.dispose]()
    expect(slots.take('a')).toBeDefined()
    expect(slots.take('a')).toBeUndefined()
  })

  test('that are taken are asked for again soon when the origin answers fast, and ever later when it does not', () => {
    let time = 0
    const slots = createHostSlots({ perOrigin: 2, now: () => time, random: () => 1 })
    const [first] = [slots.take('a'), slots.take('a')]
    expect(slots.busyDelay('a')).toBe(1000)
    time = 5000
    expect(slots.busyDelay('a')).toBe(21_000)
    time = 100_000
    expect(slots.busyDelay('a')).toBe(60_000)
    first?.[Symbol.dispose]()
    const next = slots.take('a')
    time = 100_050
    next?.[Symbol.dispose]()
    expect(slots.busyDelay('a')).toBe(1200)
  })
})
