/** What the whole service does when Redis goes away while jobs are queued or running. Every part is a real process. */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Problem } from '@easel/contract'
import { untilStatus } from './start-process.ts'
import { longBody, startService } from './start-service.ts'
import type { Service } from './start-service.ts'

const retrySeconds = 20

let service: Service
beforeEach(async () => {
  service = await startService({ WEBHOOK_RETRY_DELAYS: [0, retrySeconds, retrySeconds, retrySeconds].join() })
})
afterEach(async () => service?.close())

async function expectUnavailable(id: string): Promise<void> {
  const asked = [service.post('/v1/jobs', longBody), service.get(`/v1/jobs/${id}`), service.get('/readyz')]
  for (const response of await Promise.all(asked)) {
    expect([response.url, response.status, ((await response.json()) as Problem).code]).toEqual([response.url, 503, 'queue_unavailable'])
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  }
  expect((await service.get('/livez')).status).toBe(200)
}

async function shaOfImage(id: string): Promise<string> {
  const bytes = await (await service.get(`/images/${id}-0.png`)).arrayBuffer()
  return createHash('sha256').update(Buffer.from(bytes)).digest('hex')
}

test('a Redis that is killed and restarted with jobs queued and running and a webhook being retried loses nothing and repeats nothing', async () => {
  await service.startWorker({ WORKER_CONCURRENCY: '1' })
  const shortBody = { ...longBody, num_inference_steps: 10 }
  const undisturbed = await service.untilEnded(await service.submit(longBody))
  const expected = undisturbed.output?.images[0]?.sha256

  const inRetry = await service.submit({ ...shortBody, webhook: service.webhook(500) })
  await expect.poll(() => service.delivered.length, { timeout: 60_000 }).toBe(1)
  // A delay is lengthened by at most a fifth.
  const overdueAt = Date.now() + retrySeconds * 1200
  const running = await service.submit({ ...longBody, webhook: service.webhook() })
  const queued = [
    await service.submit({ ...longBody, webhook: service.webhook() }),
    await service.submit({ ...shortBody, webhook: service.webhook() }),
  ]
  await service.until(running, ({ progress }) => progress.step >= 3)
  for (const id of queued) expect((await service.job(id)).status).toBe('queued')
  expect((await service.job(running)).status).toBe('running')
  expect(service.delivered).toMatchObject([{ jobId: inRetry, answer: 500 }])
  await service.redis.kill()
  await expectUnavailable(running)
  await sleep(Math.max(0, overdueAt - Date.now()))
  await service.redis.restart()
  await untilStatus(`${service.api.url}/readyz`, 200)

  const all = [inRetry, running, ...queued]
  for (const id of all) expect(await service.untilEnded(id)).toMatchObject({ status: 'succeeded' })
  expect(await shaOfImage(running)).toBe(expected)
  expect(await shaOfImage(queued[0] as string)).toBe(expected)
  await expect.poll(() => new Set(service.delivered.map(({ jobId }) => jobId)).size, { timeout: 60_000 }).toBe(all.length)
  await expect.poll(() => service.delivered.filter(({ jobId }) => jobId === inRetry).length, { timeout: 60_000 }).toBe(2)
  // Long enough for a repetition to arrive, if there were one.
  await sleep(5000)
  const told = (id: string): unknown[] =>
    service.delivered.filter(({ jobId }) => jobId === id).map(({ messageId, answer }) => [messageId, answer])
  expect(told(inRetry)).toEqual([500, 200].map((answer) => [`msg_${inRetry}_completed`, answer]))
  for (const id of all.slice(1)) expect(told(id)).toEqual([[`msg_${id}_completed`, 200]])
  for (const id of all) expect(await service.countEnds(id)).toBe(1)
})

test('when Redis is gone for 60 s during a run, the picture is delivered once, though the lock of its job has long expired', async () => {
  await service.startWorker({ JOB_LOCK_DURATION: '10' })
  const undisturbed = await service.untilEnded(await service.submit(longBody))
  const id = await service.submit({ ...longBody, webhook: service.webhook() })
  expect((await service.until(id, ({ progress }) => progress.step >= 3)).status).toBe('running')
  await service.redis.kill()
  await expectUnavailable(id)
  await sleep(60_000)
  await expectUnavailable(id)
  await service.redis.restart()
  await untilStatus(`${service.api.url}/readyz`, 200)
  const job = await service.untilEnded(id)
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  expect(await shaOfImage(id)).toBe(undisturbed.output?.images[0]?.sha256)
  await expect.poll(() => service.delivered.length, { timeout: 60_000 }).toBe(1)
  // A second run would begin when the queue looks for jobs without a lock, every 10 s.
  await sleep(15_000)
  expect(service.delivered).toMatchObject([{ messageId: `msg_${id}_completed`, status: 'succeeded', answer: 200 }])
  expect(await service.countEnds(id)).toBe(1)
  expect((await service.untilEnded(await service.submit({ ...longBody, num_inference_steps: 4 }))).status).toBe('succeeded')
})

test('when Redis freezes during a run for longer than the lock of its job lasts, the picture is delivered once', async () => {
  await service.startWorker({ JOB_LOCK_DURATION: '5' })
  const undisturbed = await service.untilEnded(await service.submit(longBody))
  const id = await service.submit({ ...longBody, webhook: service.webhook() })
  expect((await service.until(id, ({ progress }) => progress.step >= 3)).status).toBe('running')
  service.redis.pause()
  await expectUnavailable(id)
  await sleep(5000)
  service.redis.resume()
  await untilStatus(`${service.api.url}/readyz`, 200)
  expect((await service.untilEnded(id)).status).toBe('succeeded')
  expect(await shaOfImage(id)).toBe(undisturbed.output?.images[0]?.sha256)
  await expect.poll(() => service.delivered.length, { timeout: 60_000 }).toBe(1)
  // A second run would begin when the queue looks for jobs without a lock, every 5 s.
  await sleep(8000)
  expect(service.delivered).toMatchObject([{ messageId: `msg_${id}_completed`, status: 'succeeded', answer: 200 }])
  expect(await service.countEnds(id)).toBe(1)
})
