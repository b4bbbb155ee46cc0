/** Inpainting: a disc in the middle of a picture is painted anew, and the rest stays. The mask, white where is painted, is made here and uploaded. */
import { hc } from 'hono/client'
import sharp from 'sharp'
import type { JobRoutes } from '@easel/api'
import type { Upload } from '@easel/contract'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'
const easel = hc<JobRoutes>(url)
const header = { prefer: 'wait=60' }

async function draw(json: Parameters<typeof easel.v1.jobs.$post>[0]['json']): Promise<string> {
  const response = await easel.v1.jobs.$post({ json, header })
  if (!response.ok) throw new Error(`Expected a job, got ${response.status}: ${await response.text()}`)
  const job = await response.json()
  const picture = job.output?.images[0]?.url
  if (picture === undefined) throw new Error(`Expected a picture, got a job that is ${job.status}: ${job.error?.message ?? 'not yet'}`)
  console.log(`${json.prompt}: ${picture}`)
  return picture
}

const disc = '<svg width="128" height="128"><rect width="128" height="128"/><circle cx="64" cy="64" r="36" fill="#fff"/></svg>'
const mask = await sharp(Buffer.from(disc)).png().toBuffer()
const sent = await fetch(`${url}/v1/uploads`, { method: 'POST', headers: { 'content-type': 'image/png' }, body: new Uint8Array(mask) })
if (!sent.ok) throw new Error(`Expected an upload, got ${sent.status}: ${await sent.text()}`)
const upload = (await sent.json()) as Upload

const image = await draw({ prompt: 'a green tree in a meadow', seed: 42 })
await draw({ prompt: 'a yellow star', image, mask: `upload:${upload.id}`, strength: 0.9, seed: 42 })
