/** Starts calls so that their first steps are ready at the same moment, however the machine schedules what each does before. */
import { expect } from 'vitest'
import { deviceQueue } from '../src/runtime/device-queue.ts'
import type { StepBatcher } from '../src/runtime/step-batcher.ts'

/**
 * Holds the device until all calls wait for their first step, and returns the calls. Their prompts and pictures must have been encoded before,
 * because that needs the device.
 */
export async function startTogether<T>(batcher: StepBatcher, calls: readonly (() => Promise<T>)[]): Promise<Promise<T>[]> {
  const { promise: free, resolve: release } = Promise.withResolvers<void>()
  const holding = deviceQueue.run('decode', () => free)
  const started = calls.map((call) => call())
  try {
    await expect.poll(() => batcher.waiting.length).toBe(calls.length)
  } finally {
    release()
  }
  await holding
  return started
}
