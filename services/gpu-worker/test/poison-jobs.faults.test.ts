/** Jobs that kill or hang the engine every time they run. Everything is real, except that a word in the prompt triggers it. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { atStep, crashingEntry, longInput, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

describe('a job that crashes the engine every time', () => {
  test('fails after it has crashed the engine alone three times, and the other jobs in the same engine succeed', async () => {
    await bench.startWorker({ engineEntry: crashingEntry })
    const others = await Promise.all([1, 2, 3].map((seed) => bench.submit({ ...longInput, num_inference_steps: 20, seed })))
    await Promise.all(others.map((id) => bench.until(id, atStep(1))))
    const poison = await bench.submit({ prompt: 'crash' })
    expect(await bench.untilEnded(poison)).toMatchObject({
      status: 'failed',
      strikes: 3,
      error: { code: 'engine_crashed', retryable: false },
    })
    for (const id of others) expect(await bench.untilEnded(id)).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
    const bull = await bench.queues.of('tiny-scenes').getJob(poison)
    expect(await bull?.getState()).toBe('failed')
  })
})

describe('a job that hangs the engine every time', () => {
  test('fails after it has hung the engine alone three times, and the next job succeeds', async () => {
    await bench.startWorker({ engineEntry: crashingEntry, env: { ENGINE_STEP_TIMEOUT: '4' } })
    const poison = await bench.submit({ prompt: 'hang' })
    await bench.until(poison, (record) => record.status === 'running')
    const other = await bench.submit()
    expect(await bench.untilEnded(poison)).toMatchObject({ status: 'failed', strikes: 3, error: { code: 'engine_hung', retryable: true } })
    expect(await bench.untilEnded(other)).toMatchObject({ status: 'succeeded', strikes: 0 })
  })
})
