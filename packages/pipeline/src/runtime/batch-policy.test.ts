import { describe, expect, it } from 'vitest'
import { ageing, batchPolicies, selectBatch } from './batch-policy.ts'
import type { WaitingCall } from './batch-policy.ts'

const call = (order: number, rest: Partial<WaitingCall> = {}): WaitingCall => ({
  order,
  rows: 2,
  shape: 'a',
  arrivedAtMs: 0,
  remainingMs: 100,
  stepMs: 10,
  owner: '',
  weight: 1,
  servedMs: 0,
  ...rest,
})
const orders = (calls: readonly WaitingCall[]) => calls.map(({ order }) => order)
const { fair, srpt, fcfs } = batchPolicies

describe('shortest remaining work first', () => {
  it('puts the request that is nearest to its end first, whenever it came', () => {
    const waiting = [call(1, { remainingMs: 500 }), call(2, { remainingMs: 40 }), call(3, { remainingMs: 90 })]
    expect(orders(srpt(waiting, 0))).toEqual([2, 3, 1])
  })

  it('serves requests with equal work left in order of arrival', () => {
    expect(orders(srpt([call(3), call(1), call(2)], 50))).toEqual([1, 2, 3])
  })

  it('lets no request starve: once it is older than its remaining work / ageing, it goes before every newcomer', () => {
    const long = call(1, { remainingMs: 1000, arrivedAtMs: 0 })
    const newcomer = (nowMs: number) => call(2, { remainingMs: 1, arrivedAtMs: nowMs })
    expect(orders(srpt([newcomer(100), long], 100))).toEqual([2, 1])
    const aged = 1000 / ageing
    expect(orders(srpt([newcomer(aged), long], aged))).toEqual([1, 2])
  })
})

it.each(Object.entries(batchPolicies))('the policy %s leaves the list that it is given as it was', (_, policy) => {
  const waiting = [call(2), call(1)]
  expect(orders(policy(waiting, 0))).toEqual([1, 2])
  expect(orders(waiting)).toEqual([2, 1])
})

it('first come, first served looks only at when a request came, whichever of its steps it is at', () => {
  const atLaterStep = call(9, { arrivedAtMs: 5 })
  expect(orders(fcfs([call(7, { arrivedAtMs: 8 }), atLaterStep, call(8, { arrivedAtMs: 5 })], 0))).toEqual([8, 9, 7])
  expect(orders(fcfs([call(3, { remainingMs: 1 }), call(1, { remainingMs: 900 }), call(2)], 1e9))).toEqual([1, 2, 3])
})

describe('the fair policy', () => {
  const of = (owner: string, count: number, rest: Partial<WaitingCall> = {}): WaitingCall[] =>
    Array.from({ length: count }, (_, i) => call(i + (owner === 'a' ? 1 : 11), { owner, ...rest }))

  it('takes turns among owners by what their calls cost, however many calls one of them has', () => {
    expect(orders(fair([...of('a', 4), ...of('b', 2)], 0))).toEqual([1, 11, 2, 12, 3, 4])
    expect(orders(fair([...of('a', 2, { stepMs: 30 }), ...of('b', 4)], 0))).toEqual([1, 11, 12, 13, 2, 14])
  })

  it('gives an owner of weight 3 three turns for each turn of another', () => {
    expect(orders(fair([...of('a', 2), ...of('b', 4, { weight: 3 })], 0))).toEqual([1, 11, 12, 13, 2, 14])
  })

  it('begins with the owner that has had the least device time', () => {
    expect(orders(fair([...of('a', 2, { servedMs: 15 }), ...of('b', 3)], 0))).toEqual([11, 12, 1, 13, 2])
  })

  it('serves the shortest remaining work first within an owner, and does nothing else when there is only one', () => {
    const calls = [call(1, { remainingMs: 500 }), call(2, { remainingMs: 40 }), call(3, { remainingMs: 90, arrivedAtMs: -9999 })]
    expect(orders(fair(calls, 0))).toEqual(orders(srpt(calls, 0)))
    const two = [...calls, call(4, { owner: 'b', remainingMs: 900 })]
    expect(orders(fair(two, 0)).slice(0, 2)).toEqual([3, 4])
  })
})

describe('a batch', () => {
  it('has the shape of the first call and leaves other shapes for another step', () => {
    const waiting = [call(1), call(2, { shape: 'b' }), call(3)]
    const batch = selectBatch(waiting, fcfs, 0, () => 8)
    expect(batch.map((share) => [share.call.order, share.rows])).toEqual([
      [1, 2],
      [3, 2],
    ])
  })

  it('is cut in the middle of a call when it is full', () => {
    const batch = selectBatch([call(1, { rows: 3 }), call(2, { rows: 3 }), call(3)], fcfs, 0, () => 4)
    expect(batch.map(({ rows }) => rows)).toEqual([3, 1])
  })

  it('asks how many rows to take with the first call, of all that fit together with it', () => {
    const asked: unknown[] = []
    selectBatch([call(1), call(2, { shape: 'b', rows: 9 }), call(3)], fcfs, 0, (first, rows) => {
      asked.push([first.order, rows])
      return 1
    })
    expect(asked).toEqual([[1, 4]])
  })

  it('is empty when nothing waits', () => {
    expect(selectBatch([], srpt, 0, () => 8)).toEqual([])
  })
})
