/** Image to image: a red boat is drawn, and drawn anew as a blue one. The URL of a result is all that is needed; the picture never leaves the server. */
import { hc } from 'hono/client'
import type { JobRoutes } from '@easel/api'

const easel = hc<JobRoutes>(process.env['EASEL_URL'] ?? 'http://localhost:8500')
const header = { prefer: 'wait=60' }

async function draw(json: Parameters<typeof easel.v1.jobs.$post>[0]['json']): Promise<string> {
  const response = await easel.v1.jobs.$post({ json, header })
  if (!response.ok) throw new Error(`Expected a job, got ${response.status}: ${await response.text()}`)
  const job = await response.json()
  const url = job.output?.images[0]?.url
  if (url === undefined) throw new Error(`Expected a picture, got a job that is ${job.status}: ${job.error?.message ?? 'not yet'}`)
  console.log(`${json.prompt}: ${job.progress.total} steps, ${url}`)
  return url
}

const red = await draw({ prompt: 'a red boat on the sea', seed: 42 })
// More strength leaves less of the first picture; 1 leaves nothing.
await draw({ prompt: 'a blue boat on the sea', image: red, strength: 0.6, seed: 42 })
