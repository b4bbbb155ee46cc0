/** Submits a job and polls it until it has ended. The client is typed by the api's own routes: a wrong field does not compile. */
import { setTimeout as sleep } from 'node:timers/promises'
import { hc } from 'hono/client'
import type { JobRoutes } from '@easel/api'

const easel = hc<JobRoutes>(process.env['EASEL_URL'] ?? 'http://localhost:8500')

const submitted = await easel.v1.jobs.$post({ json: { prompt: 'a red boat on the sea', seed: 42 }, header: {} })
if (!submitted.ok) throw new Error(`Expected a job, got ${submitted.status}: ${await submitted.text()}`)

let job = await submitted.json()
while (job.completed_at === null) {
  await sleep(250)
  const polled = await easel.v1.jobs[':id'].$get({ param: { id: job.id }, header: {} })
  if (polled.status === 200) job = await polled.json()
  console.log(`${job.status}, step ${job.progress.step} of ${job.progress.total}`)
}
console.log(job.output?.images[0]?.url ?? job.error?.message)
