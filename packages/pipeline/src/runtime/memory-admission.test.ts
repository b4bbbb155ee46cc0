import { describe, expect, it } from 'vitest'
import { MemoryAdmission } from './memory-admission.ts'
import type { MemoryNeeds, RunKind } from './memory-admission.ts'

const needs = (rest: Partial<MemoryNeeds> = {}): MemoryNeeds => ({
  requestBytes: 100,
  stepRows: 2,
  rowWork: 10,
  mostRows: () => Infinity,
  decodePixels: 0,
  encodePixels: 0,
  ...rest,
})

/** A process of 1000 bytes plus what its requests hold. A run takes ten times its work in bytes, and the process keeps them. */
function createMeasured(limitBytes: number | undefined) {
  const process = { bytes: 1000, taken: { step: 0, decode: 0, encode: 0 } }
  const residentBytes = (): number => process.bytes + [...(memory?.admitted ?? [])].reduce((sum, { requestBytes }) => sum + requestBytes, 0)
  let memory: MemoryAdmission | undefined
  const created = (memory = new MemoryAdmission(limitBytes, residentBytes))
  const run = (size: number, kind: RunKind = 'step', bytes = size * 10) =>
    created.measure(kind, size, async () => {
      process.bytes += Math.max(0, bytes - process.taken[kind])
      process.taken[kind] = Math.max(bytes, process.taken[kind])
    })
  return { process, memory: created, run }
}

const isPending = async (promise: Promise<unknown>) => {
  const late = Symbol('late')
  return (await Promise.race([promise, new Promise((resolve) => setImmediate(resolve, late))])) === late
}

describe('memory admission', () => {
  it('admits everyone where there is no limit', async () => {
    const { memory } = createMeasured(undefined)
    for (let request = 0; request < 50; request++) await memory.admit(needs())
    expect(memory.stats).toMatchObject({ admitted: 50, waiting: 0, limitBytes: undefined })
  })

  it('admits one at a time until a run has been measured, then as many as the estimate allows', async () => {
    const { memory, run } = createMeasured(1000 + 3 * 100 + 3 * 200)
    await memory.admit(needs())
    const others = [memory.admit(needs()), memory.admit(needs()), memory.admit(needs())]
    expect(memory.stats).toMatchObject({ admitted: 1, waiting: 3 })
    await run(20)
    expect(memory.stats).toMatchObject({ admitted: 2, waiting: 2 })
    await run(40)
    await Promise.all(others.slice(0, 2))
    expect(memory.stats).toMatchObject({ admitted: 3, waiting: 1, estimatedBytes: 1900 })
  })

  it.each([
    ['a decoding', 'decode', { decodePixels: 40 }],
    ['an encoding', 'encode', { encodePixels: 40 }],
  ] as const)('lets no burst of requests in before %s has been measured, if they need one', async (_, kind, pixels) => {
    const { memory, run } = createMeasured(1000 + 700 + 200 + 400)
    const all = Array.from({ length: 8 }, () => memory.admit(needs({ ...pixels, mostRows: () => 2 })))
    await run(20)
    expect(memory.stats).toMatchObject({ admitted: 1, waiting: 7 })
    await run(40, kind)
    await Promise.all(all.slice(0, 7))
    expect(memory.stats).toMatchObject({ admitted: 7, waiting: 1, estimatedBytes: 1000 + 700 + 200 + 400 })
  })

  it('predicts little from a small run: a larger picture waits until it is alone, and the rows at most double each time', async () => {
    const { memory, run } = createMeasured(1e9)
    // It ran in memory that the process already had, so nothing shows.
    await run(10, 'step', 0)
    await run(10, 'decode', 0)
    const giveBack = await memory.admit(needs({ stepRows: 1 }))
    const second = memory.admit(needs({ stepRows: 1 }))
    const others = [2, 3, 4].map(() => memory.admit(needs({ stepRows: 1 })))
    const large = memory.admit(needs({ stepRows: 1, decodePixels: 1000 }))
    const giveBackSecond = await second
    expect(memory.stats).toMatchObject({ admitted: 2, waiting: 4 })
    await run(20)
    expect(memory.stats).toMatchObject({ admitted: 4, waiting: 2 })
    await run(40)
    expect(memory.stats).toMatchObject({ admitted: 5, waiting: 1 })
    for (const leave of [giveBack, giveBackSecond, ...(await Promise.all(others))]) {
      expect(await isPending(large)).toBe(true)
      leave()
    }
    await large
  })

  it('distinguishes what every run takes from what grows with its size', async () => {
    const { memory, run } = createMeasured(1e9)
    await run(10, 'step', 5000)
    await run(20, 'step', 5100)
    // The second run of the same size takes more once, because the runtime has planned it by then.
    await run(20, 'step', 5200)
    await memory.admit(needs({ stepRows: 2 }))
    await memory.admit(needs({ stepRows: 2 }))
    expect(memory.stats.estimatedBytes).toBe(1000 + 200 + 5200 + 20 * 20)
  })

  it('counts growth once when several runs measure it, and growth that no run explains as soon as it appears', async () => {
    const { process, memory } = createMeasured(5000)
    let turn = Promise.resolve()
    const decode = () =>
      (turn = turn.then(async () => {
        await new Promise((resolve) => setImmediate(resolve))
        process.bytes = 1100
      }))
    await Promise.all(Array.from({ length: 8 }, () => memory.measure('decode', 64, decode)))
    expect(memory.growth.decode.bytes).toBe(100)
    await memory.measure('step', 20, async () => {})
    process.bytes = 4850
    await memory.admit(needs({ mostRows: () => 2 }))
    const second = memory.admit(needs({ mostRows: () => 2 }))
    expect(await isPending(second)).toBe(true)
    expect(memory.stats.estimatedBytes).toBe(4950)
  })

  it('lets the next request in when one leaves, in order of arrival, and takes a share back only once', async () => {
    const { memory, run } = createMeasured(1500)
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

  it('lets no request overtake one that waits, even if it would fit', async () => {
    const { memory, run } = createMeasured(1500)
    await run(20)
    const giveBack = await memory.admit(needs({ stepRows: 1 }))
    const large = memory.admit(needs({ stepRows: 1, requestBytes: 5000 }))
    const small = memory.admit(needs({ stepRows: 1 }))
    expect([await isPending(large), await isPending(small)]).toEqual([true, true])
    giveBack()
    await large
  })

  it('lets the requests behind a canceled one in at once', async () => {
    const { memory, run } = createMeasured(1500)
    await run(20)
    await memory.admit(needs({ stepRows: 1 }))
    const abort = new AbortController()
    const large = memory.admit(needs({ stepRows: 1, requestBytes: 5000 }), abort.signal)
    const small = memory.admit(needs({ stepRows: 1 }))
    expect(await isPending(small)).toBe(true)
    abort.abort(new Error('canceled'))
    await expect(large).rejects.toThrow('canceled')
    await small
    expect(memory.stats).toMatchObject({ admitted: 2, waiting: 0 })
  })

  it('admits a request beyond the limit when it is alone, since there is nobody to wait for', async () => {
    const { memory } = createMeasured(10)
    await memory.admit(needs())
    expect(memory.stats.admitted).toBe(1)
  })

  it('counts no more rows than a step ever has', async () => {
    const { memory, run } = createMeasured(1000 + 10 * 100 + 400)
    await run(40)
    const all = Array.from({ length: 10 }, () => memory.admit(needs({ mostRows: () => 4 })))
    await Promise.all(all)
    expect(memory.stats.estimatedBytes).toBe(2400)
  })

  it('rejects a request that is canceled while it waits with the reason, and holds no other up for it', async () => {
    const { memory, run } = createMeasured(1500)
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
