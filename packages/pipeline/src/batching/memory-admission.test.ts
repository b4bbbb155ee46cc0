import { describe, expect, it } from 'vitest'
import { MemoryAdmission } from './memory-admission.ts'
import type { MemoryNeeds } from './memory-admission.ts'

const needs = (rest: Partial<MemoryNeeds> = {}): MemoryNeeds => ({
  requestBytes: 100,
  stepRows: 2,
  rowSize: 10,
  mostRows: Infinity,
  decodeSize: 0,
  ...rest,
})

/** A process of 1000 bytes whose runs of a size take ten times that size, and keep it. */
async function createMeasured(limitBytes: number | undefined) {
  let resident = 1000
  const memory = new MemoryAdmission(limitBytes, () => resident)
  const run = (size: number) =>
    memory.measure('step', size, async () => {
      resident = Math.max(resident, 1000 + size * 10)
    })
  return { memory, run }
}

const isPending = async (promise: Promise<unknown>) => {
  const late = Symbol('late')
  return (await Promise.race([promise, new Promise((resolve) => setImmediate(resolve, late))])) === late
}

describe('memory admission', () => {
  it('admits everyone where there is no limit', async () => {
    const { memory } = await createMeasured(undefined)
    for (let request = 0; request < 50; request++) await memory.admit(needs())
    expect(memory.stats).toMatchObject({ admitted: 50, waiting: 0, limitBytes: undefined })
  })

  it('admits one at a time until a run has been measured, then as many as the estimate allows', async () => {
    const { memory, run } = await createMeasured(1000 + 3 * 100 + 3 * 200)
    await memory.admit(needs())
    const others = [memory.admit(needs()), memory.admit(needs()), memory.admit(needs())]
    expect(memory.stats).toMatchObject({ admitted: 1, waiting: 3 })
    await run(20)
    await Promise.all(others.slice(0, 2))
    expect(memory.stats).toMatchObject({ admitted: 3, waiting: 1, estimatedBytes: 1900 })
  })

  it('lets the next in when one leaves, in order of arrival, and a share is given back only once', async () => {
    const { memory, run } = await createMeasured(1500)
    await run(20)
    const giveBack = await memory.admit(needs())
    const large = memory.admit(needs({ requestBytes: 5000 }))
    const small = memory.admit(needs({ requestBytes: 1 }))
    expect(await isPending(small)).toBe(true)
    giveBack()
    giveBack()
    const giveBackLarge = await large
    expect(await isPending(small)).toBe(true)
    giveBackLarge()
    await small
    expect(memory.stats).toMatchObject({ admitted: 1, waiting: 0 })
  })

  it('admits a request beyond the limit when it is alone: it waits for nobody', async () => {
    const { memory } = await createMeasured(10)
    await memory.admit(needs())
    expect(memory.stats.admitted).toBe(1)
  })

  it('counts no more rows than a step ever has', async () => {
    const { memory, run } = await createMeasured(1000 + 10 * 100 + 400)
    await run(40)
    const all = Array.from({ length: 10 }, () => memory.admit(needs({ mostRows: 4 })))
    await Promise.all(all)
    expect(memory.stats.estimatedBytes).toBe(2400)
  })

  it('a request canceled while it waits leaves with its reason and holds nothing up', async () => {
    const { memory, run } = await createMeasured(1500)
    await run(20)
    const giveBack = await memory.admit(needs())
    const abort = new AbortController()
    const canceled = memory.admit(needs({ requestBytes: 9000 }), abort.signal)
    const next = memory.admit(needs())
    const reason = new Error('canceled')
    abort.abort(reason)
    await expect(canceled).rejects.toBe(reason)
    giveBack()
    await next
    expect(memory.stats).toMatchObject({ admitted: 1, waiting: 0 })
    expect(() => new MemoryAdmission(0)).toThrow('Expected memoryLimitBytes above 0, got 0')
  })
})
