/** What happens to jobs when memory runs out, or the engine process grows past its limit. */
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { captureLog } from './log-capture.ts'
import { endlessInput, longInput, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

const engineEntry = fileURLToPath(new URL('memory-engine.ts', import.meta.url))
let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

describe('a job for which memory ran out', () => {
  test('is run again in a fresh engine after the jobs beside it have ended, and makes the same picture', async () => {
    const worker = await bench.startWorker({ engineEntry })
    const first = worker.enginePid
    const prompt = 'a fragmented sea'
    const expected = await bench.untilEnded(await bench.submit({ prompt }))
    expect(worker.enginePid).toBe(first)
    const beside = await bench.submit(longInput)
    await bench.until(beside, (record) => record.progress.step > 0)
    const record = await bench.untilEnded(await bench.submit({ prompt }))
    expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
    expect(record.output?.images[0]?.sha256).toBe(expected.output?.images[0]?.sha256)
    expect(await bench.untilEnded(beside)).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
    expect(worker.enginePid).not.toBe(first)
  })

  test('fails as out_of_memory when a fresh engine does not have enough either, and the next job succeeds', async () => {
    await bench.startWorker({ engineEntry })
    await bench.untilEnded(await bench.submit())
    const record = await bench.untilEnded(await bench.submit({ prompt: 'an insatiable beast' }))
    expect(record).toMatchObject({ status: 'failed', error: { code: 'out_of_memory' }, runs: 1, strikes: 0 })
    expect((await bench.untilEnded(await bench.submit())).status).toBe('succeeded')
  })

  test('can be canceled while it waits for its second try', async () => {
    await bench.startWorker({ engineEntry })
    const beside = await bench.submit(endlessInput)
    await bench.until(beside, (record) => record.progress.step > 0)
    const id = await bench.submit({ prompt: 'an insatiable beast' })
    await bench.until(id, (record) => record.progress.step === 4)
    await bench.store.requestCancel(id)
    expect((await bench.untilEnded(id)).status).toBe('canceled')
    expect((await bench.store.get(beside))?.status).toBe('running')
  })
})

describe('memory that only a new process gives back', () => {
  test('is given back once for all jobs that found none, and later waves profit from what was learnt', async () => {
    const log = captureLog()
    const entry = fileURLToPath(new URL('cramped-engine.ts', import.meta.url))
    await bench.startWorker({ engineEntry: entry, logger: log.logger, env: { WORKER_CONCURRENCY: '16' } })
    // How many rows the steps of a wave have depends on how its jobs arrive, so a later wave may learn the rest.
    const processes = [log.saying('engine is ready').length]
    for (let wave = 0; wave < 6 && (wave === 0 || processes.at(-1) !== processes.at(-2)); wave++) {
      const ids = await Promise.all(Array.from({ length: 16 }, (_, job) => bench.submit({ seed: wave * 16 + job, num_inference_steps: 8 })))
      for (const id of ids) expect(await bench.untilEnded(id)).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
      processes.push(log.saying('engine is ready').length)
    }
    // The first step had up to 32 rows; each new one has half as many as the one before, down to four.
    expect(processes.at(-1)).toBeGreaterThan(1)
    expect(processes.at(-1)).toBeLessThanOrEqual(5)
    expect(processes.at(-1)).toBe(processes.at(-2))
  })
})

describe('an engine that grew past its limit', () => {
  test('is replaced once the jobs in it have ended, and no job is lost', async () => {
    const worker = await bench.startWorker({ engineEntry, env: { ENGINE_MEMORY_LIMIT: '500', WORKER_CONCURRENCY: '2' } })
    const first = worker.enginePid
    const long = await bench.submit(longInput)
    await bench.until(long, (record) => record.progress.step > 0)
    const ids = [long, await bench.submit({ prompt: 'a leak' }), await bench.submit({ seed: 2 }), await bench.submit({ seed: 3 })]
    for (const id of ids) expect(await bench.untilEnded(id)).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
    // The next process takes its place after the last call has ended.
    await expect.poll(() => worker.enginePid ?? first).not.toBe(first)
    const second = worker.enginePid
    expect((await bench.untilEnded(await bench.submit())).status).toBe('succeeded')
    expect(worker.enginePid).toBe(second)
  })

  test('is not replaced when the model alone is larger', async () => {
    const worker = await bench.startWorker({ engineEntry, env: { ENGINE_MEMORY_LIMIT: '1' } })
    const first = worker.enginePid
    for (const seed of [1, 2]) expect((await bench.untilEnded(await bench.submit({ seed }))).status).toBe('succeeded')
    expect(worker.enginePid).toBe(first)
  })
})
