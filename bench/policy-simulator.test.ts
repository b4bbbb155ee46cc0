import { batchPolicies } from '@easel/pipeline'
import { describe, expect, it } from 'vitest'
import { interpolateStepMs, simulateContinuous, simulateRunToCompletion, simulateStatic } from './policy-simulator.ts'
import type { SimulatedJob } from './policy-simulator.ts'

const { srpt, fcfs } = batchPolicies
/** Twice the rows for one and a half times the time. */
const cost = { stepMs: interpolateStepMs({ 1: 10, 2: 15, 4: 22.5, 8: 33.75 }), maxRows: 8 }

describe('virtual time', () => {
  it('serves a job alone in its steps, whatever the policy', () => {
    const jobs = [{ arrivedAtMs: 5, steps: 4, rows: 2 }]
    for (const latencies of [simulateContinuous(jobs, cost, srpt), simulateRunToCompletion(jobs, cost), simulateStatic(jobs, cost)])
      expect(latencies).toEqual([60])
  })

  it('lets a short job join a long one and leave before it', () => {
    const jobs = [
      { arrivedAtMs: 0, steps: 10, rows: 2 },
      { arrivedAtMs: 1, steps: 2, rows: 2 },
    ]
    // It joins after the first step; together a step takes 22.5.
    expect(simulateContinuous(jobs, cost, fcfs)).toEqual([15 + 2 * 22.5 + 7 * 15, 15 + 2 * 22.5 - 1])
    expect(simulateRunToCompletion(jobs, cost)).toEqual([150, 150 + 30 - 1])
    expect(simulateStatic(jobs, cost)).toEqual([150, 179])
  })

  it('finishes every job of a crowded trace, and shortest first is better for the mean than first come first served', () => {
    const jobs = Array.from({ length: 300 }, (_, index): SimulatedJob => ({
      arrivedAtMs: index * 430,
      steps: [4, 28, 50][(index * 7) % 3] as number,
      rows: 2,
    }))
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    const one = { ...cost, maxRows: 2 }
    const [short, first] = [simulateContinuous(jobs, one, srpt), simulateContinuous(jobs, one, fcfs)]
    expect(short.filter((ms) => ms > 0)).toHaveLength(300)
    expect(mean(short)).toBeLessThan(mean(first) * 0.9)
    expect(simulateContinuous(jobs, one, srpt)).toEqual(short)
  })

  it('finds step times between and beyond those that were measured', () => {
    expect([1, 3, 8, 16].map(cost.stepMs)).toEqual([10, 18.75, 33.75, 67.5])
    expect(() => interpolateStepMs({})).toThrow('Expected the time of at least one number of rows, got none')
  })
})
