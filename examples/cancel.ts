/** Cancels a running job: it ends at its next step and can no longer succeed. */
import { setTimeout as sleep } from 'node:timers/promises'
import { hc } from 'hono/client'
import type { JobRoutes } from '@easel/api'

const easel = hc<JobRoutes>(process.env['EASEL_URL'] ?? 'http://localhost:8500')

const submitted = await easel.v1.jobs.$post({
  json: { prompt: 'a pink balloon', num_inference_steps: 200, width: 256, height: 256, num_images_per_prompt: 4 },
  header: {},
})
if (!submitted.ok) throw new Error(`Expected a job, got ${submitted.status}: ${await submitted.text()}`)
const { id } = await submitted.json()
await sleep(500)

// 200: it had not started and is now canceled. 202: it is running and ends at its next step. 409: it had already ended.
const canceled = await easel.v1.jobs[':id'].cancel.$post({ param: { id } })
console.log(`cancel: ${canceled.status}`)

const ended = await easel.v1.jobs[':id'].$get({ param: { id }, header: { prefer: 'wait=30' } })
if (ended.status === 200) console.log((await ended.json()).status)
