/** What happens to a job whose client disconnects. Api and worker are real processes. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startService } from './start-service.ts'
import type { Service } from './start-service.ts'

let service: Service
beforeEach(async () => {
  service = await startService()
})
afterEach(async () => service?.close())

test('a client that leaves takes nothing with it: its job ends, its webhook is told, and the client finds the job again', async () => {
  const worker = await service.startWorker()
  // Stopped, so that the job cannot end before the clients have left.
  worker.child.kill('SIGSTOP')
  const body = { prompt: 'a red boat on the sea', num_inference_steps: 4, webhook: service.webhook() }
  const headers = { 'Idempotency-Key': 'leaving-client', Prefer: 'wait=60' }

  // One client disconnects while it waits for the answer and never learns an id.
  const leaving = new AbortController()
  const answer = service.post('/v1/jobs', body, { headers, signal: leaving.signal }).then(
    () => 'answered',
    () => 'left',
  )
  await expect.poll(() => service.api.output()).toContain('job queued')
  leaving.abort()
  expect(await answer).toBe('left')

  // The same request again gives the same job; another client disconnects in the middle of its events.
  const { id } = (await (await service.post('/v1/jobs', body, { headers: { 'Idempotency-Key': 'leaving-client' } })).json()) as Job
  const watching = new AbortController()
  const events = await service.get(`/v1/jobs/${id}/events`, { signal: watching.signal })
  await events.body?.getReader().read()
  watching.abort()

  worker.child.kill('SIGCONT')
  const job = await service.untilEnded(id)
  expect(job.status).toBe('succeeded')
  expect((await service.get(`/images/${id}-0.png`)).status).toBe(200)
  expect(await service.countEnds(id)).toBe(1)
  await expect.poll(() => service.delivered.map(({ messageId }) => messageId), { timeout: 60_000 }).toEqual([`msg_${id}_completed`])
  const { jobs } = (await (await service.get('/v1/jobs')).json()) as { jobs: Job[] }
  expect(jobs.map((each) => each.id)).toEqual([id])
})
