/** Image to image: draws a red boat, and from it a blue one. The first picture is only referred to; it never leaves the server. */
import { type CreateJob, Easel } from '@easel/client'

const easel = new Easel({ baseUrl: process.env['EASEL_URL'] ?? 'http://localhost:8500' })

async function draw(request: CreateJob) {
  const { output, progress } = await easel.run(request)
  const [picture] = output.images
  console.log(`${request.prompt}: ${progress.total} steps, ${picture.url}`)
  return picture
}

const red = await draw({ prompt: 'a red boat on the sea', seed: 42 })
// More strength leaves less of the first picture; 1 leaves nothing.
await draw({ prompt: 'a blue boat on the sea', image: red, strength: 0.6, seed: 42 })
