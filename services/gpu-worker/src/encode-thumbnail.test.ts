import { load } from 'exifreader'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { encodeThumbnail } from './encode-image.ts'
import type { EngineImage } from './engine/protocol.ts'

function imageOf(width: number, height: number): EngineImage {
  return { index: 0, width, height, rgb: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 251) }
}

test.for([
  { of: [1024, 1024], is: [384, 384] },
  { of: [1024, 512], is: [384, 192] },
  { of: [512, 2048], is: [96, 384] },
  { of: [128, 64], is: [128, 64] },
])(
  'the thumbnail of $of is $is: its longer side has at most 384 pixels, and nothing is enlarged',
  async ({ of: [width = 0, height = 0], is }) => {
    const file = await encodeThumbnail(imageOf(width, height))
    const seen = await sharp(file).metadata()
    expect([seen.format, seen.width, seen.height]).toEqual(['webp', ...is])
  },
)

test('a thumbnail is the same bytes each time', async () => {
  const image = imageOf(640, 480)
  expect(await encodeThumbnail(image)).toEqual(await encodeThumbnail(image))
})

test('a thumbnail is marked as made by a model like its picture, without the prompt', async () => {
  const described = await encodeThumbnail(imageOf(64, 64), { parameters: 'a secret prompt', toXmp: (text) => toXmp(text ?? 'none') })
  const { xmp } = load(described, { expanded: true })
  expect(xmp?.['CreatorTool']?.description).toBe('none')
  expect(described.includes('a secret prompt')).toBe(false)
  expect(load(await encodeThumbnail(imageOf(64, 64)), { expanded: true }).xmp).toBeUndefined()
})

function toXmp(text: string): string {
  return `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:CreatorTool>${text}</xmp:CreatorTool></rdf:Description>
</rdf:RDF></x:xmpmeta>`
}
