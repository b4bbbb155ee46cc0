/** What a worker does with finished pictures while the store is down, slow or full: a real S3 server, a real small disk. */
import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { JobRecord } from '@easel/job-store'
import { startForwarder } from '@easel/storage/test/forwarder'
import { startS3Server } from '@easel/storage/test/s3-server'
import type { S3Server } from '@easel/storage/test/s3-server'
import { mountTmpfs, noTmpfs } from '@easel/storage/test/tmpfs'
import { captureLog } from './log-capture.ts'
import { openWorkerBench, sha } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

const retried = 'upload will be tried again'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

function toEnv({ accessKeyId, secretAccessKey }: S3Server, endpoint: string): Record<string, string> {
  return {
    STORAGE: 's3',
    S3_ENDPOINT: endpoint,
    S3_BUCKET: `easel-${randomUUID()}`,
    S3_ACCESS_KEY_ID: accessKeyId,
    S3_SECRET_ACCESS_KEY: secretAccessKey,
  }
}

/** Checks that the picture was made once: no step was reported a second time. */
async function expectOneGeneration(record: JobRecord): Promise<void> {
  expect(record).toMatchObject({ status: 'succeeded', runs: 1, strikes: 0 })
  const events = await bench.store.readEvents(record.id, '0')
  const steps = events.flatMap((event) => (event.type === 'progress' ? [event.step] : []))
  expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b))
}

const fill = async (disk: string, bytes: number): Promise<void> => {
  await expect(writeFile(join(disk, 'filler'), Buffer.alloc(bytes))).rejects.toThrow('ENOSPC')
}

const server = await startS3Server()

describe('an S3 server', () => {
  if ('skipped' in server || server.source === 'given') {
    test('that can be stopped is needed', ({ skip }) => {
      skip('skipped' in server ? server.skipped : 'a given S3 server is not ours to stop')
      expect.unreachable()
    })
    return
  }
  afterAll(() => server.stop())

  test('that is down when a picture is ready gets it once it is back, and the picture is made only once', async () => {
    const log = captureLog()
    await bench.startWorker({ env: toEnv(server, server.endpoint), logger: log.logger })
    const expected = sha(await bench.untilEnded(await bench.submit()))
    await server.kill()
    const id = await bench.submit()
    const [line] = await log.until(retried)
    expect(line?.err?.code).toBe('unavailable')
    expect(await bench.store.get(id)).toMatchObject({ status: 'running' })
    await server.restart()
    const record = await bench.untilEnded(id)
    await expectOneGeneration(record)
    expect(sha(record)).toBe(expected)
  })

  test('that stays down fails the job with storage_unavailable, and the next job after it is back succeeds', async () => {
    await bench.startWorker({ env: toEnv(server, server.endpoint), uploadRetryMs: 300 })
    await server.kill()
    const id = await bench.submit()
    expect(await bench.untilEnded(id)).toMatchObject({
      status: 'failed',
      output: undefined,
      error: { code: 'storage_unavailable', retryable: true },
    })
    await server.restart()
    expect(await bench.untilEnded(await bench.submit())).toMatchObject({ status: 'succeeded' })
  })

  test('that is slow is waited for, and the upload is tried again when it takes longer than a request may', async () => {
    let delayMs = 200
    const endpoint = await startForwarder(server, () => ({ delayMs }))
    const log = captureLog()
    await bench.startWorker({ env: { ...toEnv(server, endpoint), S3_REQUEST_TIMEOUT_MS: '4000' }, logger: log.logger })
    expect(await bench.untilEnded(await bench.submit())).toMatchObject({ status: 'succeeded' })
    expect(log.saying(retried)).toEqual([])
    delayMs = 20_000
    const id = await bench.submit()
    const [line] = await log.until(retried)
    expect(line?.err).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/timeout/i) as string })
    delayMs = 0
    await expectOneGeneration(await bench.untilEnded(id))
  })

  test('that is full is reported as such, and gets the picture when there is room again', async ({ skip }) => {
    skip(server.source !== 'process', 'needs a server process on a small disk')
    const disk = (await mountTmpfs('size=8m')) ?? skip(noTmpfs)
    const small = await startS3Server({ dir: disk })
    if ('skipped' in small) throw new Error(small.skipped)
    try {
      const log = captureLog()
      await bench.startWorker({ env: toEnv(small, small.endpoint), logger: log.logger })
      await bench.untilEnded(await bench.submit())
      await fill(disk, 9 * 1024 * 1024)
      const id = await bench.submit()
      const [line] = await log.until(retried)
      expect(line?.err?.code).toBe('no_space')
      await rm(join(disk, 'filler'))
      await expectOneGeneration(await bench.untilEnded(id))
    } finally {
      await small.stop()
    }
  })
})

describe('a full disk under the local store', () => {
  test('is reported as such, a job that waits for it can be canceled, and the picture is stored when there is room again', async ({
    skip,
  }) => {
    const disk = (await mountTmpfs('size=1m')) ?? skip(noTmpfs)
    const log = captureLog()
    await bench.startWorker({ env: { STORAGE_DIR: disk }, logger: log.logger })
    await bench.untilEnded(await bench.submit())
    await fill(disk, 2 * 1024 * 1024)
    const [kept, canceled] = [await bench.submit(), await bench.submit()]
    const lines = await log.until(retried, 2)
    expect(lines.map(({ err }) => err?.code)).toEqual(lines.map(() => 'no_space'))
    expect(await bench.store.requestCancel(canceled)).toBe('cancel_requested')
    expect(await bench.untilEnded(canceled)).toMatchObject({ status: 'canceled', output: undefined })
    await rm(join(disk, 'filler'))
    await expectOneGeneration(await bench.untilEnded(kept))
  })

  test('that stays full fails the job with storage_unavailable, and the worker continues', async ({ skip }) => {
    const disk = (await mountTmpfs('size=1m')) ?? skip(noTmpfs)
    await bench.startWorker({ env: { STORAGE_DIR: disk }, uploadRetryMs: 300 })
    await bench.untilEnded(await bench.submit())
    await fill(disk, 2 * 1024 * 1024)
    expect(await bench.untilEnded(await bench.submit())).toMatchObject({ status: 'failed', error: { code: 'storage_unavailable' } })
    await rm(join(disk, 'filler'))
    expect(await bench.untilEnded(await bench.submit())).toMatchObject({ status: 'succeeded' })
  })
})
