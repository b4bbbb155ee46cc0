import { load } from 'exifreader'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { encodeThumbnail } from './encode-image.ts'
import type { EngineImage } from '../engine/protocol.ts'

function imageOf(width: number, height: number): EngineImage {
  return { index: 0, width, height, rgb: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 251) }
}

test.for([
  { of: [1024, 1024], is: [384, 384] },
  { of: [1024, 512], is: [384, 192] },
  { of: [512, 2048], is: [96, 384] },
  { of: [385, 16], is: [384, 16] },
])('the thumbnail of a picture of $of pixels has $is, at most 384 on a side', async ({ of: [width = 0, height = 0], is }) => {
  const file = await encodeThumbnail(imageOf(width, height))
  const seen = await sharp(file).metadata()
  expect([seen.format, seen.width, seen.height]).toEqual(['webp', ...is])
})

test.for([
  [384, 384],
  [64, 128],
])('a picture of %s by %s pixels is as small as a thumbnail and gets none', async ([width = 0, height = 0]) => {
  expect(await encodeThumbnail(imageOf(width, height))).toBeUndefined()
})

test('a thumbnail has the same bytes each time', async () => {
  const image = imageOf(640, 480)
  expect(await encodeThumbnail(image)).toEqual(await encodeThumbnail(image))
})

test('a thumbnail is marked as made by a model, as its picture is, but without the prompt', async () => {
  const large = imageOf(512, 64)
  const described = await encodeThumbnail(large, { parameters: 'a secret prompt', toXmp: (text) => toXmp(text ?? 'none') })
  const { xmp } = load(described ?? Buffer.of(), { expanded: true })
  expect(xmp?.['CreatorTool']?.description).toBe('none')
  expect(described?.includes('a secret prompt')).toBe(false)
  expect(load((await encodeThumbnail(large)) ?? Buffer.of(), { expanded: true }).xmp).toBeUndefined()
})

function toXmp(text: string): string {
  return `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:CreatorTool>${text}</xmp:CreatorTool></rdf:Description>
</rdf:RDF></x:xmpmeta>`
}
