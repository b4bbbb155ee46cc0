/** Makes a mask out of the transparency of a picture. Knows nothing about requests. Runs in the api; the work is done in threads of libvips. */
import sharp from 'sharp'

/** PNG, white where the picture is transparent; undefined when it is so nowhere. The picture must have been inspected. */
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
