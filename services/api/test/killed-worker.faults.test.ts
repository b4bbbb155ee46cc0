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

test('a job whose worker is killed in the middle of it is finished by another with the same bytes, and its webhook is told once', async () => {
  // A lock that outlasts a moment in which a worker gets no processor, so that only the killed one loses it.
  const env = { JOB_LOCK_DURATION: '5' }
  const workers = [await service.startWorker(env), await service.startWorker(env)]
  const undisturbed = await service.untilEnded(await service.submit(longBody))
  const id = await service.submit({ ...longBody, webhook: service.webhook() })
  await service.until(id, ({ progress }) => progress.step >= 3)
  const runs = (worker: ServiceProcess): boolean => worker.output().includes(id)
  // The line in its log may arrive here after the progress that it has reported.
  await expect.poll(() => workers.filter(runs)).toHaveLength(1)
  const [victim, other] = [workers.find(runs), workers.find((worker) => !runs(worker))]
  expect(victim?.child.kill('SIGKILL')).toBe(true)
  const job = await service.untilEnded(id)
  expect(job).toMatchObject({ status: 'succeeded', error: null })
  expect(job.output?.images[0]?.sha256).toBe(undisturbed.output?.images[0]?.sha256)
  await expect.poll(() => other?.output(), { timeout: 60_000 }).toContain(id)
  await expect.poll(() => service.delivered.length, { timeout: 60_000 }).toBe(1)
  expect(service.delivered).toMatchObject([{ messageId: `msg_${id}_completed`, type: 'job.completed', status: 'succeeded', answer: 200 }])
  expect(await service.countEnds(id)).toBe(1)
})
