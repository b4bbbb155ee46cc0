import { describe, expect, test } from 'vitest'
import { createPlaces } from './places.ts'
import type { Places } from './places.ts'

/** Takes as many places as possible for an owner that always sends to new origins. */
function takeAll(places: Places, owner: string): number {
  let taken = 0
  while (places.take(owner, `https://${owner}.example:${taken}`) !== undefined) taken++
  return taken
}

describe('places', () => {
  test('are limited for each origin of each owner separately, and can be taken again when given back', () => {
    const places = createPlaces({ total: 64, perOrigin: 2 })
    const [first, second] = [places.take('o', 'a'), places.take('o', 'a')]
    expect([first === undefined, second === undefined, places.take('o', 'a')]).toEqual([false, false, undefined])
    expect(places.take('o', 'b')).toBeDefined()
    expect(places.take('p', 'a')).toBeDefined()
    first?.[Symbol.dispose]()
    expect(places.take('o', 'a')).toBeDefined()
    expect(places.take('o', 'a')).toBeUndefined()
  })

  test('are given to an owner up to half of those that are free, however many origins it names', () => {
    const places = createPlaces({ total: 64, perOrigin: 8 })
    expect(['a', 'b', 'c', 'd', 'e', 'f'].map((owner) => takeAll(places, owner))).toEqual([32, 16, 8, 4, 2, 1])
    expect(takeAll(places, 'g')).toBe(1)
    expect(takeAll(places, 'h')).toBe(0)
  })

  test('are shared evenly by owners that take turns to take and give back', () => {
    const places = createPlaces({ total: 30, perOrigin: 30 })
    const held = new Map<string, Disposable[]>([
      ['a', []],
      ['b', []],
    ])
    const take = (owner: string): void => {
      const place = places.take(owner, 'x')
      if (place !== undefined) held.get(owner)?.push(place)
    }
    for (let i = 0; i < 100; i++) take('a')
    for (let round = 0; round < 100; round++) {
      held.get('a')?.shift()?.[Symbol.dispose]()
      for (const owner of ['b', 'a']) take(owner)
    }
    expect([held.get('a')?.length, held.get('b')?.length]).toEqual([8, 8])
  })

  test('are left over for further origins of an owner, however many its first origin would take', () => {
    const places = createPlaces({ total: 64, perOrigin: 64 })
    const take = (origin: string): number => {
      let taken = 0
      while (places.take('o', origin) !== undefined) taken++
      return taken
    }
    expect(['a', 'b', 'c', 'd', 'e'].map(take)).toEqual([22, 7, 2, 1, 0])
  })

  test('that are all taken are asked for again soon if answers come fast, and later and later if they do not', () => {
    let time = 0
    const places = createPlaces({ total: 64, perOrigin: 2, now: () => time, random: () => 1 })
    const [first] = [places.take('o', 'a'), places.take('o', 'a')]
    expect(places.busyDelay('o', 'a')).toBe(1000)
    time = 5000
    expect(places.busyDelay('o', 'a')).toBe(21_000)
    // How long the owner has to wait does not depend on the origin.
    expect(places.busyDelay('o', 'b')).toBe(21_000)
    expect(places.busyDelay('p', 'a')).toBe(1000)
    time = 100_000
    expect(places.busyDelay('o', 'a')).toBe(60_000)
    first?.[Symbol.dispose]()
    const next = places.take('o', 'a')
    time = 100_050
    next?.[Symbol.dispose]()
    expect(places.busyDelay('o', 'a')).toBe(1200)
  })

  test('of a slow origin are asked for later than those of a quick one of the same owner', () => {
    let time = 0
    const places = createPlaces({ total: 64, perOrigin: 2, now: () => time, random: () => 1 })
    places.take('o', 'slow')
    time = 5000
    const quick = places.take('o', 'quick')
    time = 5010
    quick?.[Symbol.dispose]()
    expect([places.busyDelay('o', 'slow'), places.busyDelay('o', 'quick')]).toEqual([21_040, 1040])
  })
})
