/** Makes pictures without any server: one resident model, several requests on it at once. */
import { mkdir } from 'node:fs/promises'
import sharp from 'sharp'
import { RequestScopedPipeline, StableDiffusion3Pipeline } from '@easel/pipeline'

const folder = process.env['OUTPUT'] ?? 'demo-output'
const pipe = await StableDiffusion3Pipeline.fromPretrained('models/tiny-scenes', { device: 'cpu' })
const scoped = new RequestScopedPipeline(pipe)

const prompts = ['a red boat on the sea', 'a big green cat at night']
const results = await Promise.all(prompts.map(async (prompt, i) => await scoped.generate({ prompt, seed: 42 + i, numInferenceSteps: 20 })))

await mkdir(folder, { recursive: true })
for (const [i, { images, seed }] of results.entries()) {
  for (const { data, width, height } of images) {
    const file = `${folder}/library-${i}.png`
    await sharp(data, { raw: { width, height, channels: 3 } }).toFile(file)
    console.log(`${prompts[i]} (seed ${seed}): ${file}`)
  }
}
