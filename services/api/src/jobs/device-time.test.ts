import { describe, expect, test } from 'vitest'
import type { JobWork } from '@easel/job-store'
import { tinyScenes } from '../../test/start-api.ts'
import { toLeftMs } from './device-time.ts'

const model = { ...tinyScenes, step_ms: 30_000, picture_ms: 14_000 }

/** A job of 4 steps whose step `step` ended at the instant 1000. */
function running(step: number, steppedAt: number | undefined = 1000): JobWork {
  const input = { model: 'tiny-scenes', num_inference_steps: 4, num_images_per_prompt: 1, width: 128, height: 128, guidance_scale: 4 }
  return { id: '1', owner: 'a', status: 'running', progress: { step, total: 4 }, steppedAt, worker: 'w', costMs: 1, weight: 1, input }
}

describe('the device time that a running job still needs', () => {
  test('counts down between two steps, and never by more than a step', () => {
    const at = (nowMs?: number): number => toLeftMs(running(1), model, nowMs)
    expect([at(), at(1000), at(11_000), at(31_000), at(500_000)]).toEqual([104_000, 104_000, 94_000, 74_000, 74_000])
  })

  test('counts down to nothing after the last step', () => {
    const at = (nowMs: number): number => toLeftMs(running(4), model, nowMs)
    expect([at(1000), at(5000), at(500_000)]).toEqual([14_000, 10_000, 0])
  })

  test('follows from the steps alone before the first step, and if the clock of the worker is ahead', () => {
    expect(toLeftMs(running(1), model, 0)).toBe(104_000)
    expect(toLeftMs({ ...running(0), steppedAt: undefined }, model, 11_000)).toBe(134_000)
  })
})
