/** The package `@easel/client`: makes a picture, follows its progress, saves it, draws another from it, and shows what was wrong with a request. */
import { mkdir } from 'node:fs/promises'
import { Easel, InvalidRequestError } from '@easel/client'

const folder = process.env['OUTPUT'] ?? 'demo-output'
const easel = new Easel({ baseUrl: process.env['EASEL_URL'] ?? 'http://localhost:8500' })

const { id } = await easel.create({ prompt: 'a red boat on the sea', seed: 42 })
for await (const event of easel.events(id)) {
  if (event.type === 'progress') console.log(`step ${event.step} of ${event.total}`)
  if (event.type === 'done') console.log(event.job.status)
}

const job = await easel.wait(id)
if (job.status !== 'succeeded') throw new Error(`Expected pictures, got a job that is ${job.status}: ${job.error?.message}`)
const [red] = job.output.images
await mkdir(folder, { recursive: true })
await easel.images.toFile(red, `${folder}/client-red.png`)

// Submits and waits in one call; it throws when there are no pictures.
const { output } = await easel.run({ prompt: 'a blue boat on the sea', image: red, strength: 0.6, seed: 42 })
await easel.images.toFile(output.images[0], `${folder}/client-blue.png`)
console.log(`${folder}/client-red.png, ${folder}/client-blue.png`)

try {
  await easel.create({ prompt: 'a boat', width: 100 })
} catch (error) {
  if (!(error instanceof InvalidRequestError)) throw error
  for (const { field, expected, received } of error.errors) console.log(`${field}: expected ${expected}, got ${received}`)
}
