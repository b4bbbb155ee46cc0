import { expect, test } from 'vitest'
import { isMet } from './row.ts'

test('a target is met at its limit and only on the right side of it', () => {
  expect([isMet('>= 0.95', 0.95), isMet('>= 0.95', 0.94), isMet('<= 5', 5), isMet('<= 5', 5.1)]).toEqual([true, false, true, false])
  expect(isMet('>= 0.95', Number.NaN)).toBe(false)
})

test('a target that cannot be parsed is an error, not a miss', () => {
  expect(() => isMet('about 1', 1)).toThrow('Expected a target like')
})
