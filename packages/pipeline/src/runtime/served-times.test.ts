import { expect, it } from 'vitest'
import { ServedTimes } from './served-times.ts'

it('the device time that an owner has had is divided by its weight', () => {
  const served = new ServedTimes()
  served.add('a', 1, 30)
  served.add('b', 3, 30)
  served.add('a', 1, 10)
  expect([served.of('a'), served.of('b'), served.of('new')]).toEqual([40, 10, 0])
})

it('an owner that was away has saved nothing up, and one that comes back still owes what it has had', () => {
  const served = new ServedTimes()
  served.add('a', 1, 100)
  served.add('b', 1, 500)
  served.advance('a')
  expect([served.of('away'), served.of('a'), served.of('b')]).toEqual([100, 100, 500])
  served.add('away', 1, 20)
  expect(served.of('away')).toBe(120)
})
