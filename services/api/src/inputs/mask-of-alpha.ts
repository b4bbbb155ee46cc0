/** Makes a mask from the transparency of a picture. Knows nothing about requests. Runs in the api; libvips' threads do the work. */
import sharp from 'sharp'

/** A PNG, white where the picture is transparent; undefined when it is nowhere transparent. The picture must have been inspected. */
export async function toMaskOfAlpha(bytes: Uint8Array): Promise<Uint8Array | undefined> {
  const picture = sharp(bytes, { limitInputPixels: false })
  if (!(await picture.metadata()).hasAlpha) return undefined
  const { data, info } = await picture
    .autoOrient()
    .extractChannel('alpha')
    .negate()
    .toColourspace('b-w')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  if (data.equals(Buffer.alloc(data.length))) return undefined
  const { width, height } = info
  return new Uint8Array(
    await sharp(data, { raw: { width, height, channels: 1 }, limitInputPixels: false })
      .toColourspace('b-w')
      .png()
      .toBuffer(),
  )
}
