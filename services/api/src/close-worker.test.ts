import { Queue, Worker } from 'bullmq'
import { expect, test } from 'vitest'
import { createRedis, waitUntilReady } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { closeWorker } from './close-worker.ts'

test('a worker that is closed finishes its job within the grace and takes no other', async () => {
  const server = await startRedis()
  const connection = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await waitUntilReady(connection, 60_000)
  const queue = new Queue('q', { connection })
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const worker = new Worker('q', () => released, { connection })
  await queue.addBulk([1, 2].map((n) => ({ name: `job ${n}`, data: {} })))
  await expect.poll(() => queue.getActiveCount()).toBe(1)
  const closed = closeWorker(worker, { graceMs: 20_000 })
  release()
  await closed
  expect(await queue.getJobCounts('completed', 'wait', 'active')).toEqual({ completed: 1, wait: 1, active: 0 })
  await queue.close()
  connection.disconnect()
  await server.stop()
})

test.each(['kill', 'pause'] as const)('a worker closes even if Redis does not answer (%s) and its job never ends', async (outage) => {
  const server = await startRedis()
  const connection = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  await waitUntilReady(connection, 60_000)
  const queue = new Queue('q', { connection })
  queue.on('error', () => {})
  let stopped = false
  const worker = new Worker('q', () => new Promise<void>(() => {}), { connection })
  worker.on('error', () => {})
  await queue.add('endless', {})
  await expect.poll(() => queue.getActiveCount()).toBe(1)
  await server[outage]()
  await closeWorker(worker, { graceMs: 100, stop: () => (stopped = true) })
  expect(stopped).toBe(true)
  connection.disconnect()
  await server.stop()
})
