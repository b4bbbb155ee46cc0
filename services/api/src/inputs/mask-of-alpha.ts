/** Makes a mask from the transparency of a picture. Knows nothing about requests. Runs in the api; libvips' threads do the work. */
import sharp, { type Sharp } from 'sharp'
import { decodeInTurn } from '@easel/input-pictures'
import type { SentPicture } from './picture-source.ts'
import { toSent } from './take-picture.ts'

/** A PNG, white where the picture is transparent; undefined if it is opaque everywhere. The picture must have been inspected. */
export async function toMaskOfAlpha(bytes: Uint8Array): Promise<SentPicture | undefined> {
  const picture = sharp(bytes, { limitInputPixels: false })
  const { hasAlpha, width, height } = await picture.metadata()
  if (!hasAlpha) return undefined
  return await decodeInTurn(width * height, async () => await paintAlpha(picture.autoOrient()))
}

async function paintAlpha(picture: Sharp): Promise<SentPicture | undefined> {
  const { data, info } = await picture
    .extractChannel('alpha')
    .negate()
    .toColourspace('b-w')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  if (data.equals(Buffer.alloc(data.length))) return undefined
  const { width, height } = info
  const mask = sharp(data, { raw: { width, height, channels: 1 }, limitInputPixels: false }).toColourspace('b-w')
  return toSent(new Uint8Array(await mask.png().toBuffer()), { width, height, content_type: 'image/png' })
}
