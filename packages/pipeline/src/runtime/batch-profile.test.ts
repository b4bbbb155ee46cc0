import { describe, expect, it } from 'vitest'
import { BatchProfile } from './batch-profile.ts'

/** Runs steps while `waiting` rows wait and a step has the given cost; returns the number of rows of each. */
function run(profile: BatchProfile, steps: number, waiting: number, costMs: (rows: number) => number, shape = 'a'): number[] {
  return Array.from({ length: steps }, () => {
    const rows = profile.rowsFor(shape, waiting)
    profile.observe(shape, rows, costMs(rows))
    return rows
  })
}

const last = (rows: readonly number[]) => rows.at(-1)
/** A fixed part plus a part for each row, so that a row among sixteen costs a third of a row alone. */
const sharing = (rows: number) => 10 + rows * 5
const computeBound = (rows: number) => rows * 15
const kneeAtFour = (rows: number) => 10 + rows * 5 + Math.max(0, rows - 4) * 6

describe('the number of rows', () => {
  it('goes up to all that wait while a row gets cheaper', () => {
    expect(last(run(new BatchProfile(), 60, 16, sharing))).toBe(16)
    expect(last(run(new BatchProfile(), 60, 6, sharing))).toBe(6)
  })

  it('begins with one for a size that nobody has measured, however many wait, and then doubles', () => {
    // A step costs nearly the same with any number of rows, so only the need to measure keeps the number low.
    expect(run(new BatchProfile(), 16, 16, (rows) => 100 + rows)).toEqual([1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 8])
  })

  it('stays at one where rows cost the same together and apart', () => {
    const profile = new BatchProfile()
    expect(last(run(profile, 60, 16, computeBound))).toBe(1)
    expect(profile.knee('a')).toBe(1)
  })

  it('is the knee, beyond which a row costs more', () => {
    expect(last(run(new BatchProfile(), 60, 32, kneeAtFour))).toBe(4)
  })

  it('goes a few rows beyond the knee where they cost no more, and stays at the knee where they do', () => {
    const profile = new BatchProfile()
    profile.restore({ flat: { 1: 15, 2: 20, 4: 30, 6: 42, 8: 55 }, dear: { 1: 15, 2: 20, 4: 28, 8: 70 } })
    expect([6, 8, 11, 12].map((waiting) => profile.upToKnee('flat', waiting))).toEqual([6, 8, 6, 6])
    expect([3, 4, 7].map((waiting) => profile.upToKnee('dear', waiting))).toEqual([3, 4, 4])
    // Twice the knee make two steps, even if one step would cost as much.
    profile.restore({ even: { 1: 15, 2: 20, 4: 28, 8: 56, 16: 112 } })
    expect([7, 8].map((waiting) => profile.upToKnee('even', waiting))).toEqual([7, 4])
  })

  it('is found beyond a doubling that gains nothing', () => {
    const stair: Record<number, number> = { 1: 10, 2: 19.6, 4: 32, 8: 52, 16: 96 }
    expect(last(run(new BatchProfile(), 100, 16, (rows) => stair[rows] ?? rows * 6))).toBe(16)
  })

  it('never tries what is far beyond the knee', () => {
    const dear = (rows: number) => (rows > 4 ? rows * 40 : sharing(rows))
    expect(Math.max(...run(new BatchProfile(), 600, 64, dear))).toBe(8)
  })

  it('is measured again often next to the knee, and rarely far from it', () => {
    const profile = new BatchProfile()
    run(profile, 60, 32, kneeAtFour)
    const rows = run(profile, 300, 32, kneeAtFour)
    expect(rows).toContain(2)
    expect(rows).not.toContain(1)
  })

  it('is known after a few steps, five at each doubling', () => {
    expect(run(new BatchProfile(), 20, 4, sharing).slice(10)).toEqual(Array.from({ length: 10 }, () => 4))
  })

  it('is learnt separately for each size', () => {
    const profile = new BatchProfile()
    run(profile, 60, 16, sharing, 'small')
    run(profile, 60, 16, computeBound, 'large')
    expect([profile.rowsFor('small', 16), profile.rowsFor('large', 16)]).toEqual([16, 1])
  })

  it('is never above the limit or the rows that wait', () => {
    const profile = new BatchProfile({ maxRows: 5 })
    expect(Math.max(...run(profile, 100, 16, sharing))).toBe(5)
    expect(Math.max(...run(profile, 100, 3, sharing))).toBe(3)
    expect(() => new BatchProfile({ maxRows: 0 })).toThrow('Expected maxRows from 1 up, got 0')
  })

  it('follows when the machine becomes another one', () => {
    const profile = new BatchProfile()
    expect(last(run(profile, 100, 16, sharing))).toBe(16)
    expect(last(run(profile, 4000, 16, kneeAtFour))).toBe(4)
  })

  it('recovers from times that other work on the machine has spoilt', () => {
    const profile = new BatchProfile()
    run(profile, 25, 16, (rows) => (rows === 16 ? 1000 : sharing(rows)))
    expect(profile.knee('a')).toBe(8)
    expect(last(run(profile, 200, 16, sharing))).toBe(16)
  })

  it('is not misled by one slow step', () => {
    const profile = new BatchProfile()
    run(profile, 100, 16, sharing)
    profile.observe('a', 16, 5000)
    expect(profile.rowsFor('a', 16)).toBe(16)
  })
})

it('only the times of the sizes used last are kept', () => {
  const profile = new BatchProfile()
  for (let side = 0; side < 200; side++) {
    run(profile, 6, 1, sharing, 'often')
    run(profile, 6, 1, sharing, `${side}`)
  }
  const shapes = Object.keys(profile.toTimes())
  expect(shapes.length).toBeLessThanOrEqual(64)
  expect(shapes).toContain('often')
  expect(shapes).toContain('199')
})

it('the next process knows at once what one process has learnt', () => {
  const first = new BatchProfile()
  run(first, 60, 16, computeBound)
  const next = new BatchProfile()
  next.restore(JSON.parse(JSON.stringify(first.toTimes())) as ReturnType<BatchProfile['toTimes']>)
  expect(run(next, 10, 16, computeBound)).toEqual(Array.from({ length: 10 }, () => 1))
  expect(next.toTimes()).toEqual(first.toTimes())
})

it('the cost of a size that has never run is estimated from one that has, in proportion to their work', () => {
  const profile = new BatchProfile()
  expect(profile.rowMs('a', 100)).toBe(100)
  run(profile, 60, 16, computeBound)
  expect(profile.rowMs('a', 100)).toBe(15)
  expect(profile.rowMs('b', 300)).toBe(45)
})
