/** Submits a job and waits for its end in the same request, as long as the server allows, and then in further requests. */
import { hc } from 'hono/client'
import type { JobRoutes } from '@easel/api'

const easel = hc<JobRoutes>(process.env['EASEL_URL'] ?? 'http://localhost:8500')
const header = { prefer: 'wait=30' }

const submitted = await easel.v1.jobs.$post({ json: { prompt: 'a big green cat at night', seed: 7 }, header })
if (!submitted.ok) throw new Error(`Expected a job, got ${submitted.status}: ${await submitted.text()}`)

let job = await submitted.json()
while (job.completed_at === null) {
  const waited = await easel.v1.jobs[':id'].$get({ param: { id: job.id }, header })
  if (waited.status === 200) job = await waited.json()
}
console.log(job.output?.images[0]?.url ?? job.error?.message)
