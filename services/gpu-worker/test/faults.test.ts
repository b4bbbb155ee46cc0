/** What a worker does when its engine or Redis dies or hangs, and when it is told to stop. Everything is real. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { JobRecord } from '@easel/job-store'
import { atStep, endlessInput, longInput, openWorkerBench, sha } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

let expectedSha: string | undefined
/** The hash of the picture of `longInput` from a run that nothing disturbed. The first call needs a worker. */
async function undisturbed(): Promise<string | undefined> {
  return (expectedSha ??= sha(await bench.untilEnded(await bench.submit(longInput))))
}

describe('the engine process', () => {
  test('that is killed in the middle of a job is replaced immediately, and the job ends with the same bytes in the same run', async () => {
    const worker = await bench.startWorker({ env: { JOB_LOCK_DURATION: '600' } })
    const expected = await undisturbed()
    let pid = 0
    const id = await bench.interrupt(longInput, 3, () => {
      pid = worker.enginePid as number
      process.kill(pid, 'SIGKILL')
    })
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 1 })
    expect(sha(record)).toBe(expected)
    expect(worker.enginePid).not.toBe(pid)
  })

  test('that is stopped with SIGSTOP is noticed because steps are missing, and is killed, and its job is tried again', async () => {
    const worker = await bench.startWorker({ env: { ENGINE_STEP_TIMEOUT: '4' } })
    const expected = await undisturbed()
    let pid = 0
    const stop = (): void => {
      pid = worker.enginePid as number
      process.kill(pid, 'SIGSTOP')
    }
    const id = await bench.interrupt(longInput, 3, stop, () => process.kill(pid, 'SIGCONT'))
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 1 })
    expect(sha(record)).toBe(expected)
    expect(isAlive(pid)).toBe(false)
  })

  test('ignores SIGTERM and SIGINT, which may be sent to all processes of a group', async () => {
    const worker = await bench.startWorker()
    const pid = worker.enginePid as number
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(1))
    process.kill(pid, 'SIGTERM')
    process.kill(pid, 'SIGINT')
    expect(await bench.untilEnded(id)).toMatchObject({ status: 'succeeded', strikes: 0 })
    expect(worker.enginePid).toBe(pid)
  })

  test('is gone once its worker is closed, even if it was busy', async () => {
    const worker = await bench.startWorker()
    const pid = worker.enginePid as number
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(1))
    await worker.close(0)
    expect(isAlive(pid)).toBe(false)
    expect(await bench.registry.workers()).toEqual([])
  })
})

test('a job that is deleted while it runs leaves no trace in Redis once its worker has noticed', async () => {
  await bench.startWorker()
  const id = await bench.submit(endlessInput)
  await bench.until(id, atStep(2))
  // What the api does.
  await bench.store.requestCancel(id)
  await bench.store.end(id, { status: 'canceled' })
  await bench.store.delete(id)
  expect(await bench.queues.remove('tiny-scenes', id)).toBe(false)
  const queue = bench.queues.of('tiny-scenes')
  await expect.poll(() => queue.getJobState(id), { timeout: 60_000 }).toBe('unknown')
  expect(await bench.redis.keys(`*${id}*`)).toEqual([])
})

describe('a cancel', () => {
  test('ends a running job within a few steps, and its place is free again', async () => {
    await bench.startWorker({ env: { WORKER_CONCURRENCY: '1' } })
    const id = await bench.submit(endlessInput)
    await bench.until(id, atStep(2))
    expect(await bench.store.requestCancel(id)).toBe('cancel_requested')
    const record = await bench.untilEnded(id)
    expect(record.status).toBe('canceled')
    expect(record.progress.step).toBeLessThan(200)
    expect((await bench.untilEnded(await bench.submit())).status).toBe('succeeded')
  })

  test('whose message the worker missed is found when the connection is back', async () => {
    await bench.startWorker()
    const id = await bench.submit(endlessInput)
    await bench.until(id, atStep(2))
    // As requestCancel writes it, without the message.
    await bench.redis.hset(bench.store.keys.job(id), 'cancel_requested_at', Date.now())
    await bench.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    const record = await bench.untilEnded(id)
    expect(record.status).toBe('canceled')
    // A run that continued to its end would be canceled too, when it claims the end.
    expect(record.progress.step).toBeLessThan(endlessInput.num_inference_steps)
  })
})

describe('a timeout', () => {
  test('fails a job that runs longer than it allows', async () => {
    await bench.startWorker()
    const id = await bench.submit(endlessInput, { timeoutSeconds: 1 })
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'failed', error: { code: 'timeout' } })
    expect(record.progress.step).toBeLessThan(200)
  })
})

test('the timeout counts from the first start, even one by another worker', async () => {
  // Counted from now, the run would end long before this timeout.
  const id = await bench.submit(endlessInput, { timeoutSeconds: 3600 })
  // It was handed over by a worker that began it two hours ago.
  await bench.store.start(id, 'earlier')
  await bench.redis.hset(bench.store.keys.job(id), 'started_at', Date.now() - 7_200_000)
  await bench.startWorker()
  const record = await bench.untilEnded(id)
  expect(record).toMatchObject({ status: 'failed', error: { code: 'timeout' }, worker: expect.not.stringContaining('earlier') as string })
})

test('a cancel that arrives while pictures are being stored leaves none of them', async () => {
  await bench.startWorker()
  const folder = join(bench.dir, 'images')
  const files = async (id: string): Promise<string[]> => (await readdir(folder).catch(() => [])).filter((name) => name.startsWith(id))
  for (;;) {
    const id = await bench.submit({ num_inference_steps: 1, num_images_per_prompt: 10, width: 128, height: 128 })
    while ((await files(id)).length === 0) await sleep(1)
    const accepted = await bench.store.requestCancel(id)
    await bench.redis.publish(bench.store.keys.cancelChannel, id)
    const { status } = await bench.untilEnded(id)
    // Sometimes the last picture is finished before the cancel.
    if (accepted !== 'cancel_requested') continue
    expect(status).toBe('canceled')
    await expect.poll(() => files(id)).toEqual([])
    break
  }
})

describe('a store that fails', () => {
  test('for good makes the job fail with storage_unavailable', async () => {
    await bench.startWorker({ uploadRetryMs: 300 })
    // There is a file where the folder of pictures should be, so no write can succeed.
    await writeFile(join(bench.dir, 'images'), '')
    const id = await bench.submit()
    expect(await bench.untilEnded(id)).toMatchObject({ status: 'failed', output: undefined, error: { code: 'storage_unavailable' } })
  })
})

describe('a worker that is told to stop', () => {
  test('hands a running job over, and another worker continues from the same step to the same bytes', async () => {
    // No lock has to expire for it.
    const env = { JOB_LOCK_DURATION: '600' }
    let first = await bench.startWorker({ env })
    const expected = await undisturbed()
    let id: string
    for (;;) {
      id = await bench.submit(longInput)
      await bench.until(id, atStep(10))
      await first.close(0)
      const { status, progress } = (await bench.store.get(id)) as JobRecord
      if (status === 'running' && progress.step < longInput.num_inference_steps) break
      // This process was held up until the run was over.
      first = await bench.startWorker({ env })
    }
    expect(await bench.store.loadCheckpoint(id)).toBeDefined()

    const steps: number[] = []
    await bench.startWorker({ env })
    const record = await bench.untilEnded(id)
    for (const event of await bench.store.readEvents(id, '0')) if (event.type === 'progress') steps.push(event.step)
    expect(record).toMatchObject({ status: 'succeeded', runs: 2, strikes: 0 })
    expect(sha(record)).toBe(expected)
    // No step was made twice.
    expect(steps).toEqual([...steps].sort((a, b) => a - b))
    expect(await bench.store.loadCheckpoint(id)).toBeUndefined()
  })

  test('lets a running job end if it can within the grace period', async () => {
    const worker = await bench.startWorker()
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(1))
    await worker.close(60_000)
    expect(await bench.store.get(id)).toMatchObject({ status: 'succeeded', runs: 1 })
  })
})

describe('two runs of one job', () => {
  test('give one result: both write the same bytes, and one claims the end', async () => {
    const first = await bench.startWorker({ env: { JOB_LOCK_DURATION: '1' } })
    const signal = (name: NodeJS.Signals): boolean => process.kill(first.enginePid as number, name)
    const id = await bench.interrupt(
      longInput,
      2,
      () => signal('SIGSTOP'),
      () => signal('SIGCONT'),
    )
    // As after a lost lock: the queue hands the job out again while the first run is held up and not over.
    await bench.redis.del(`{test}:generate-tiny-scenes:${id}:lock`)
    await bench.startWorker({ env: { JOB_LOCK_DURATION: '2' } })
    await bench.until(id, (record) => record.runs === 2)
    signal('SIGCONT')
    const record = await bench.untilEnded(id)
    expect(record.status).toBe('succeeded')
    const done = (await bench.store.readEvents(id, '0')).filter((event) => event.type === 'done')
    expect(done).toHaveLength(1)
    expect(sha(record)).toBe(await undisturbed())
  })
})

describe('Redis', () => {
  test('that is killed in the middle of a run and comes back gets the picture once', async () => {
    await bench.close()
    bench = await openWorkerBench({ appendonly: true, args: ['--appendfsync', 'always'] })
    // The lock of the job expires in the meantime.
    await bench.startWorker({ env: { JOB_LOCK_DURATION: '2' } })
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(2))
    await bench.server.kill()
    await sleep(3000)
    await bench.server.restart()
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', strikes: 0 })
    expect((await bench.store.readEvents(id, '0')).filter((event) => event.type === 'done')).toHaveLength(1)
    expect(sha(record)).toBe(await undisturbed())
  })
})
