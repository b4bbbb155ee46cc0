/** The longest queue that MAX_QUEUED_JOBS allows by default: 10,000 jobs, each submitted over HTTP to an api process, and then a worker. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Job, Problem } from '@easel/contract'
import { startService } from './start-service.ts'
import type { Service } from './start-service.ts'

const limit = 10_000
const atOnce = 50
const smallBody = { prompt: 'a red boat on the sea', seed: 42, num_inference_steps: 1, width: 64, height: 64 }

let service: Service
beforeEach(async () => {
  service = await startService()
})
afterEach(async () => service?.close())

async function listAll(status: string): Promise<string[]> {
  const ids: string[] = []
  let cursor: string | undefined
  for (;;) {
    const query = new URLSearchParams({ status, limit: '100', ...(cursor === undefined ? {} : { cursor }) })
    const page = (await (await service.get(`/v1/jobs?${query.toString()}`)).json()) as { jobs: Job[]; next: string | null }
    ids.push(...page.jobs.map(({ id }) => id))
    if (page.next === null) return ids
    cursor = page.next
  }
}

test('with 10,000 jobs queued the next is refused with 429, and jobs are still listed, positioned, canceled and run', async () => {
  // A worker announces the model and ends; the model's record stays.
  const first = await service.startWorker()
  first.child.kill('SIGTERM')
  expect(await first.ended).toBe(0)

  const ids: string[] = []
  for (let i = 0; i < limit; i += atOnce) ids.push(...(await Promise.all(Array.from({ length: atOnce }, () => service.submit(smallBody)))))

  const refused = await service.post('/v1/jobs', smallBody)
  expect([refused.status, ((await refused.json()) as Problem).code]).toEqual([429, 'queue_full'])
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await service.get('/readyz')).status).toBe(200)
  expect(new Set(await listAll('queued'))).toEqual(new Set(ids))

  const last = ids.at(-1) as string
  const before = (await service.job(last)).queue_position as number
  expect(before).toBeGreaterThan(limit - atOnce)
  const canceled = await service.post(`/v1/jobs/${ids[0]}/cancel`, {})
  expect([canceled.status, ((await canceled.json()) as Job).status]).toEqual([200, 'canceled'])
  // In a queue of this length positions may be a second old.
  const position = (id: string) => expect.poll(async () => (await service.job(id)).queue_position)
  await position(last).toBe(before - 1)
  const extra = await service.submit({ ...smallBody, webhook: service.webhook() })
  await position(extra).toBe(limit)
  expect((await service.post('/v1/jobs', smallBody)).status).toBe(429)

  await service.startWorker()
  const worked = ids.slice(atOnce, 2 * atOnce)
  for (const id of worked) expect(await service.untilEnded(id)).toMatchObject({ status: 'succeeded' })
  // A job deep in the queue is canceled while jobs are taken from the front.
  expect((await service.post(`/v1/jobs/${extra}/cancel`, {})).status).toBe(200)
  await expect.poll(() => service.delivered, { timeout: 60_000 }).toMatchObject([{ jobId: extra, status: 'canceled', answer: 200 }])
  const counts = await Promise.all(['queued', 'running', 'succeeded', 'failed'].map(async (status) => (await listAll(status)).length))
  expect(counts.at(-1)).toBe(0)
  expect(counts[2]).toBeGreaterThanOrEqual(worked.length)
  await service.submit(smallBody)
})
