import sharp from 'sharp'
import { expect, test } from 'vitest'
import { decodeInTurn, inspectPicture } from './inspect-picture.ts'

test('no memory stays in use once a picture has been inspected', async () => {
  // The decoder of a progressive JPEG holds 3 bytes for each of its pixels.
  const [width, height] = [4000, 4000]
  const file = await sharp({ create: { width, height, channels: 3, background: '#093063' } })
    .jpeg({ progressive: true })
    .toBuffer()
  const inspect = async (): Promise<number> => {
    await inspectPicture(file, { maxPixels: width * height })
    return process.memoryUsage.rss()
  }
  const first = await inspect()
  let last = first
  for (let again = 0; again < 6; again++) last = await inspect()
  expect(last - first).toBeLessThan(3 * (3 * width * height))
})

test('large pictures are decoded one at a time, and small ones beside them', async () => {
  const underWay = new Set<string>()
  const seen: string[] = []
  const released = Promise.withResolvers<void>()
  const decode = (name: string, pixels: number): Promise<void> =>
    decodeInTurn(pixels, async () => {
      underWay.add(name)
      seen.push([...underWay].join('+'))
      if (name === 'large') await released.promise
      underWay.delete(name)
    })
  const large = [decode('large', 40_000_000), decode('larger', 50_000_000)]
  await expect.poll(() => seen).toEqual(['large'])
  await decode('small', 1_000_000)
  released.resolve()
  await Promise.all(large)
  expect(seen).toEqual(['large', 'large+small', 'larger'])
})
