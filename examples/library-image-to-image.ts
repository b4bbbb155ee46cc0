/** A picture, the same with a boat of another colour, and with a star painted into one corner: three pipelines over one resident model. */
import { mkdir } from 'node:fs/promises'
import sharp from 'sharp'
import { StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline } from '@easel/pipeline'
import type { Gray8Image, Rgb8Image } from '@easel/pipeline'

const folder = process.env['OUTPUT'] ?? 'demo-output'
const pipe = await StableDiffusion3Pipeline.fromPretrained('models/tiny-scenes', { device: 'cpu' })
const img2img = StableDiffusion3Img2ImgPipeline.fromPipe(pipe)
const inpaint = StableDiffusion3InpaintPipeline.fromPipe(pipe)

const [image] = (await pipe.generate({ prompt: 'a red boat on the sea', seed: 42 })).images as [Rgb8Image]
const { width, height } = image
const isPainted = (x: number, y: number) => x < width / 2 && y < height / 2
const white = (_: unknown, at: number) => (isPainted(at % width, Math.floor(at / width)) ? 255 : 0)
const maskImage: Gray8Image = { data: Uint8Array.from({ length: width * height }, white), width, height }

const [blue, star] = await Promise.all([
  img2img.generate({ prompt: 'a blue boat on the sea', image, strength: 0.6, seed: 42 }),
  inpaint.generate({ prompt: 'a yellow star', image, maskImage, strength: 0.9, seed: 42 }),
])
await pipe.close()

await mkdir(folder, { recursive: true })
for (const [name, { data }] of Object.entries({
  picture: image,
  'image-to-image': blue.images[0] as Rgb8Image,
  inpainting: star.images[0] as Rgb8Image,
})) {
  const file = `${folder}/library-${name}.png`
  await sharp(data, { raw: { width, height, channels: 3 } }).toFile(file)
  console.log(`${name}: ${file}`)
}
