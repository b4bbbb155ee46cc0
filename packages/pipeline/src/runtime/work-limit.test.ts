import { describe, expect, it } from 'vitest'
import { BatchProfile } from './batch-profile.ts'
import { WorkLimit } from './work-limit.ts'

function stepped(limit: WorkLimit, works: readonly number[]): WorkLimit {
  for (const work of works) limit.observeStep(work)
  return limit
}
const repeat = (work: number, times: number) => Array.from({ length: times }, () => work)

describe('the limit of work', () => {
  it('becomes half of the largest step when something else finds no memory, and is infinite before', () => {
    const limit = stepped(new WorkLimit(), [10, 80, 20])
    expect(limit.work).toBe(Infinity)
    limit.observeShortage()
    expect(limit.work).toBe(40)
  })

  it('is not halved again by the failures that follow at once', () => {
    const limit = stepped(new WorkLimit(), [80])
    for (let failure = 0; failure < 16; failure++) limit.observeShortage()
    expect(limit.work).toBe(40)
  })

  it('stays infinite while no step has run', () => {
    const limit = new WorkLimit()
    limit.observeShortage()
    expect(limit.work).toBe(Infinity)
  })

  it('doubles after 400 steps, and after twice as many when that was too early', () => {
    const limit = stepped(new WorkLimit(), [80])
    limit.observeShortage()
    expect(stepped(limit, repeat(40, 399)).work).toBe(40)
    expect(stepped(limit, [40]).work).toBe(80)
    limit.observeShortage()
    expect(limit.work).toBe(40)
    expect(stepped(limit, repeat(40, 799)).work).toBe(40)
    expect(stepped(limit, [40]).work).toBe(80)
  })

  it('is kept by the next process, where the first shortage halves it at once', () => {
    const next = new WorkLimit()
    next.restore({ work: 40, shortages: 1 })
    expect(next.work).toBe(40)
    stepped(next, [40]).observeShortage()
    expect(next.lesson).toEqual({ work: 20, shortages: 2 })
  })

  it('holds for steps of every size by their work, and always allows one row', () => {
    const profile = new BatchProfile()
    for (const [size, work] of [
      ['small', 10],
      ['large', 50],
    ] as const)
      profile.rowMs(size, work)
    profile.observe('small', 16, 1)
    profile.observeUnitShortage()
    expect([profile.mostRows('small'), profile.mostRows('large')]).toEqual([8, 1])
    for (let step = 0; step < 4; step++) expect(profile.rowsFor('small', 100)).toBeLessThanOrEqual(8)
  })
})
