import { describe, expect, test } from 'vitest'
import { batchPolicies } from '@easel/pipeline'
import { chooserOf, makeTrace, simulateEngine, simulateFirstCome, simulateStatic, stepMsOf } from './simulator.ts'
import type { DeviceTimes } from './simulator.ts'

/** A step takes time in proportion to its rows, so that batching neither gains nor loses. */
const flat: DeviceTimes = { stepMs: { 1: 10, 2: 20, 4: 40, 8: 80 }, decodeMs: 0 }
/** A step takes 20 ms, however many rows it has. */
const free: DeviceTimes = { stepMs: { 1: 20, 2: 20, 4: 20, 8: 20, 16: 20 }, decodeMs: 5 }

describe('step times', () => {
  test('are interpolated between two that were measured, and grow in proportion to the rows beyond the last', () => {
    expect(stepMsOf({ stepMs: { 2: 20, 4: 30 }, decodeMs: 0 }, 3)).toBe(25)
    expect(stepMsOf({ stepMs: { 2: 20, 4: 30 }, decodeMs: 0 }, 8)).toBe(60)
    expect(stepMsOf({ stepMs: { 2: 20, 4: 30 }, decodeMs: 0 }, 1)).toBe(20)
  })

  test('give the rows of a step by the engine’s own rule', () => {
    expect(chooserOf(flat).rows).toBe(1)
    expect(chooserOf(free).rows).toBe(16)
  })
})

describe('a request alone', () => {
  const trace = [{ arrivesAt: 100, steps: 4, rows: 2 }]

  test('takes the time of its steps and its decoding, however it is served', () => {
    expect(simulateEngine(trace, free, batchPolicies.srpt)).toEqual([85])
    expect(simulateFirstCome(trace, free)).toEqual([85])
    expect(simulateStatic(trace, free)).toEqual([85])
  })
})

describe('requests together', () => {
  const longThenShort = [
    { arrivesAt: 0, steps: 50, rows: 2 },
    { arrivesAt: 1, steps: 4, rows: 2 },
  ]

  test('run one after another if the first to come is the first to be served', () => {
    expect(simulateFirstCome(longThenShort, flat)).toEqual([1000, 1079])
  })

  test('share the steps of the engine, and a short one does not wait for a long one', () => {
    const [long = 0, short = 0] = simulateEngine(longThenShort, flat, batchPolicies.srpt)
    expect(short).toBeLessThan(100)
    expect(long).toBe(1080)
    const [, shortInBatch = 0] = simulateEngine(longThenShort, free, batchPolicies.srpt)
    // It waits for the step under way and then takes its own four steps and its decoding.
    expect(shortInBatch).toBe(20 + 4 * 20 + 5 - 1)
  })

  test('take as long as the longest in a static batch, and later ones wait for it', () => {
    const trace = [...longThenShort.map((job) => ({ ...job, arrivesAt: 0 })), { arrivesAt: 1, steps: 4, rows: 2 }]
    expect(simulateStatic(trace, free)).toEqual([1010, 1010, 1094])
  })

  test('all end under any policy, and the device is never idle while one waits', () => {
    const trace = makeTrace({ seed: 1, jobs: 200, meanGapMs: 10, steps: [4, 28, 50] })
    const work = trace.reduce((sum, job) => sum + job.steps * job.rows * 10, 0)
    for (const policy of Object.values(batchPolicies)) {
      const latencies = simulateEngine(trace, flat, policy)
      expect(latencies.filter((ms) => ms > 0)).toHaveLength(200)
      const lastEnd = Math.max(...latencies.map((ms, index) => ms + (trace[index]?.arrivesAt ?? 0)))
      expect(lastEnd).toBeCloseTo(work + (trace[0]?.arrivesAt ?? 0), 6)
    }
  })
})

describe('a trace', () => {
  test('is the same for the same seed and has the requested gap', () => {
    const options = { seed: 7, jobs: 2000, meanGapMs: 50, steps: [4, 28, 50] }
    const trace = makeTrace(options)
    expect(makeTrace(options)).toEqual(trace)
    expect(makeTrace({ ...options, seed: 8 })).not.toEqual(trace)
    expect((trace.at(-1)?.arrivesAt ?? 0) / 2000).toBeGreaterThan(45)
    expect((trace.at(-1)?.arrivesAt ?? 0) / 2000).toBeLessThan(55)
    expect(new Set(trace.map(({ steps }) => steps))).toEqual(new Set([4, 28, 50]))
  })
})
