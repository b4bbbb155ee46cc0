/** What clients see of a worker that is killed in the middle of their job: api and workers are real processes. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ServiceProcess } from './start-process.ts'
import { longBody, startService } from './start-service.ts'
import type { Service } from './start-service.ts'

let service: Service
beforeEach(async () => {
  service = await startService()
})
afterEach(async () => service?.close())

test('a job whose worker is killed in mid-run is ended by another with the same bytes, and its webhook hears of one end', async () => {
  const workers = [await service.startWorker(), await service.startWorker()]
  const undisturbed = await service.untilEnded(await service.submit(longBody))
  const id = await service.submit({ ...longBody, webhook: service.webhook() })
  await service.until(id, ({ progress }) => progress.step >= 3)
  const knows = (worker: ServiceProcess): boolean => worker.output().includes(id)
  const [victim, other] = [workers.find(knows), workers.find((worker) => !knows(worker))]
  expect(victim?.child.kill('SIGKILL')).toBe(true)
  const job = await service.untilEnded(id)
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  expect(job.output?.images[0]?.sha256).toBe(undisturbed.output?.images[0]?.sha256)
  expect(other?.output()).toContain(id)
  await expect.poll(() => service.delivered.length, { timeout: 20_000 }).toBe(1)
  expect(service.delivered).toMatchObject([{ messageId: `msg_${id}_completed`, type: 'job.completed', status: 'succeeded', answer: 200 }])
  expect(await service.countEnds(id)).toBe(1)
})
