import { describe, expect, test } from 'vitest'
import { quantile, runRounds, toMeasured } from './rounds.ts'

describe('rounds', () => {
  test('run every side once in each round, reverse the order every time, and leave the warm-up out', async () => {
    const log: string[] = []
    const slot = (name: string) => async () => log.push(name)
    const results = await runRounds(3, { a: slot('a'), b: slot('b') })
    expect(log).toEqual(['a', 'b', 'b', 'a', 'a', 'b', 'b', 'a'])
    expect(results).toEqual([
      { a: 4, b: 3 },
      { a: 5, b: 6 },
      { a: 8, b: 7 },
    ])
  })

  test('give median and quartiles', () => {
    expect(toMeasured([5, 1, 2, 4, 3])).toEqual({ value: 3, quartiles: [2, 4] })
    expect(quantile([1, 2], 0.5)).toBe(1.5)
    expect(quantile([7], 0.99)).toBe(7)
  })
})
