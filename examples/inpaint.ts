/** Inpainting: repaints a disc in the middle of a picture and keeps the rest. The mask, white where to paint, is made here and uploaded. */
import sharp from 'sharp'
import { type CreateJob, Easel } from '@easel/client'

const easel = new Easel({ baseUrl: process.env['EASEL_URL'] ?? 'http://localhost:8500' })

async function draw(request: CreateJob) {
  const { output } = await easel.run(request)
  const [picture] = output.images
  console.log(`${request.prompt}: ${picture.url}`)
  return picture
}

const disc = '<svg width="128" height="128"><rect width="128" height="128"/><circle cx="64" cy="64" r="36" fill="#fff"/></svg>'
const mask = await easel.upload(await sharp(Buffer.from(disc)).png().toBuffer())

const image = await draw({ prompt: 'a green tree in a meadow', seed: 42 })
await draw({ prompt: 'a yellow star', image, mask, strength: 0.9, seed: 42 })
