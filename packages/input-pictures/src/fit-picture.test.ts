import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { fitMask, fitPicture } from './fit-picture.ts'

type Colour = readonly [red: number, green: number, blue: number]
const red: Colour = [255, 0, 0]
const blue: Colour = [0, 0, 255]

/** A picture whose left half has one colour and whose right half another. */
async function halves(width: number, height: number, [left, right]: readonly [Colour, Colour]): Promise<Buffer> {
  const data = Buffer.from(Array.from({ length: width * height }, (_, pixel) => (pixel % width < width / 2 ? left : right)).flat())
  return await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
}
const square = { width: 64, height: 64 } as const
const at = ({ data, width }: { data: Uint8Array; width: number }, x: number, y: number, channels = 3): number[] => [
  ...data.subarray((y * width + x) * channels, (y * width + x + 1) * channels),
]
const white = [255, 255, 255]
const black = [0, 0, 0]

describe('a picture', () => {
  test('of the same size as the frame keeps every pixel, whatever the fit', async () => {
    const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 2654435761) >>> 24)
    const file = await sharp(noise, { raw: { ...square, channels: 3 } })
      .png()
      .toBuffer()
    for (const fit of ['cover', 'contain', 'fill'] as const) {
      const { data, ...size } = await fitPicture(file, { ...square, fit })
      expect(size).toEqual(square)
      expect(Buffer.from(data).equals(noise)).toBe(true)
    }
  })

  test('wider than the frame is cut at both sides, shown whole on black, or stretched', async () => {
    const file = await halves(128, 64, [red, blue])
    const [cover, contain, fill] = await Promise.all(
      (['cover', 'contain', 'fill'] as const).map((fit) => fitPicture(file, { ...square, fit })),
    )
    expect([at(cover!, 2, 32), at(cover!, 61, 32), at(cover!, 2, 2)]).toEqual([red, blue, red])
    expect([at(contain!, 2, 32), at(contain!, 61, 32), at(contain!, 2, 2), at(contain!, 32, 61)]).toEqual([red, blue, black, black])
    expect([at(fill!, 2, 2), at(fill!, 61, 61)]).toEqual([red, blue])
  })

  test('is turned as its orientation says', async () => {
    // 6: the camera was turned, so that the left of the stored picture is its top.
    const file = await sharp(await halves(64, 32, [red, blue]))
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 100, chromaSubsampling: '4:4:4' })
      .toBuffer()
    const upright = await fitPicture(file, { width: 32, height: 64, fit: 'cover' })
    expect(at(upright, 16, 8)[0]).toBeGreaterThan(240)
    expect(at(upright, 16, 56)[2]).toBeGreaterThan(240)
  })

  test('of 16 bits, of grey, with a palette, of CMYK or with a profile becomes 8-bit sRGB', async () => {
    const grey16 = await sharp(
      Uint16Array.from({ length: 64 * 64 }, () => 32896),
      { raw: { ...square, channels: 1 } },
    )
      .toColourspace('grey16')
      .png()
      .toBuffer()
    expect(await sharp(grey16).metadata()).toMatchObject({ depth: 'ushort' })
    expect(at(await fitPicture(grey16, { ...square, fit: 'fill' }), 9, 9)).toEqual([128, 128, 128])
    const base = sharp(await halves(64, 64, [red, blue]))
    const rgb16 = await base.clone().toColourspace('rgb16').png().toBuffer()
    const palette = await base.clone().png({ palette: true }).toBuffer()
    for (const file of [rgb16, palette]) expect(at(await fitPicture(file, { ...square, fit: 'fill' }), 9, 9)).toEqual(red)
    const cmyk = await base.clone().toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer()
    expect(await sharp(cmyk).metadata()).toMatchObject({ space: 'cmyk' })
    const [r, g, b] = at(await fitPicture(cmyk, { ...square, fit: 'fill' }), 9, 9) as [number, number, number]
    expect([r > 200, g < 80, b < 80]).toEqual([true, true, true])
    const p3 = await base.clone().withIccProfile('p3').png().toBuffer()
    expect(await sharp(p3).metadata()).toMatchObject({ hasProfile: true })
    const fromP3 = at(await fitPicture(p3, { ...square, fit: 'fill' }), 9, 9)
    for (const [channel, value] of fromP3.entries()) expect(Math.abs(value - (red[channel] ?? 0))).toBeLessThanOrEqual(3)
  })

  test('is put on white where it is transparent', async () => {
    const clear = await sharp({ create: { ...square, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0 } } })
      .png()
      .toBuffer()
    expect(at(await fitPicture(clear, { ...square, fit: 'fill' }), 5, 5)).toEqual(white)
  })

  test('that is animated becomes its first frame', async () => {
    const frames = Buffer.concat([Buffer.alloc(64 * 64 * 3, Buffer.from(red)), Buffer.alloc(64 * 64 * 3, Buffer.from(blue))])
    const gif = await sharp(frames, { raw: { width: 64, height: 128, channels: 3, pageHeight: 64 } })
      .gif()
      .toBuffer()
    expect(await sharp(gif).metadata()).toMatchObject({ pages: 2 })
    expect(at(await fitPicture(gif, { ...square, fit: 'cover' }), 32, 32)).toEqual(red)
  })
})

describe('a mask', () => {
  const toMask = halves(32, 32, [
    [0, 0, 0],
    [255, 255, 255],
  ])

  test('is stretched over its picture and fitted with it, and leaves the area beside the picture unpainted', async () => {
    const picture = { width: 128, height: 64 }
    const contain = await fitMask(await toMask, picture, { ...square, fit: 'contain' })
    expect(contain.data).toHaveLength(64 * 64)
    const column = (x: number, y: number) => at(contain, x, y, 1)[0]
    expect([column(5, 32), column(60, 32), column(60, 5), column(60, 60)]).toEqual([0, 255, 0, 0])
    const cover = await fitMask(await toMask, picture, { ...square, fit: 'cover' })
    expect([at(cover, 2, 2, 1), at(cover, 61, 61, 1)]).toEqual([[0], [255]])
  })

  test('of the same size as its picture and the frame keeps every value', async () => {
    const values = Uint8Array.from({ length: 64 * 64 }, (_, i) => i % 256)
    const file = await sharp(values, { raw: { ...square, channels: 1 } })
      .png()
      .toBuffer()
    const { data } = await fitMask(file, square, { ...square, fit: 'cover' })
    expect(Buffer.from(data).equals(values)).toBe(true)
  })

  test('that is transparent where nothing was drawn paints only what was drawn', async () => {
    const drawn = await sharp({ create: { ...square, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
      .composite([
        {
          input: await sharp({ create: { width: 16, height: 16, channels: 4, background: '#fff' } })
            .png()
            .toBuffer(),
          left: 0,
          top: 0,
        },
      ])
      .png()
      .toBuffer()
    const mask = await fitMask(drawn, square, { ...square, fit: 'fill' })
    expect([at(mask, 5, 5, 1), at(mask, 40, 40, 1)]).toEqual([[255], [0]])
  })
})

test('something that is not a picture is an error', async () => {
  await expect(fitPicture(Buffer.from('<html>'), { ...square, fit: 'cover' })).rejects.toThrow('unsupported image format')
})
