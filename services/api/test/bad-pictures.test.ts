/** Every kind of picture that cannot be used, in every way in which it can arrive: what the answer is, and that nothing is stored. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Problem } from '@easel/contract'
import { paint, startPictureServer, uniquePng } from './pictures.ts'
import type { PictureServer } from './pictures.ts'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'

const maxBytes = 200_000
let api: TestApi
let web: PictureServer

beforeAll(async () => {
  web = await startPictureServer()
  const env = { INPUT_ALLOW_INSECURE: 'true', MAX_INPUT_BYTES: String(maxBytes), MAX_INPUT_PIXELS: '1000000' }
  api = await startTestApi({ model: { ...tinyScenes, has_vae_encoder: true }, env })
})
afterAll(async () => {
  await api.close()
  web.close()
})

const stored = async (): Promise<string[]> => await readdir(join(api.storageDir, 'inputs')).catch(() => [])

/** A part of a PNG file. */
function chunk(type: string, data: Buffer): Buffer {
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  sum.writeUInt32BE(crc32(Buffer.concat([Buffer.from(type), data])))
  return Buffer.concat([length, Buffer.from(type), data, sum])
}

/** A PNG file whose header promises that many pixels but which contains none. */
async function bomb(side: number): Promise<Buffer> {
  const real = await paint(16, 16).png().toBuffer()
  const bytes = Buffer.from(real)
  bytes.writeUInt32BE(side, 16)
  bytes.writeUInt32BE(side, 20)
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29)
  return bytes
}

/** The answer to each bad picture, however it arrives. */
const bad: [string, () => Promise<Buffer>, number, string, RegExp][] = [
  ['1 × 1', async () => await paint(1, 1).png().toBuffer(), 422, 'invalid_image', /at least 16 pixels, got 1 × 1/],
  ['a side of 15', async () => await paint(15, 200).png().toBuffer(), 422, 'invalid_image', /at least 16 pixels, got 15 × 200/],
  [
    'too many pixels',
    async () => await paint(1001, 1000).webp().toBuffer(),
    422,
    'invalid_image',
    /at most 1000000 pixels, got 1001 × 1000/,
  ],
  ['a decompression bomb', async () => await bomb(60_000), 422, 'invalid_image', /at most 1000000 pixels, got 60000 × 60000/],
  ['a cut off PNG', async () => (await uniquePng()).subarray(0, 5000), 422, 'invalid_image', /damaged or cut off/],
  [
    'a cut off JPEG',
    async () =>
      cut(
        await sharp(await uniquePng())
          .jpeg()
          .toBuffer(),
      ),
    422,
    'invalid_image',
    /damaged or cut off/,
  ],
  [
    'a cut off WebP',
    async () =>
      cut(
        await sharp(await uniquePng())
          .webp()
          .toBuffer(),
      ),
    422,
    'invalid_image',
    /./,
  ],
  [
    'a cut off AVIF',
    async () =>
      cut(
        await sharp(await uniquePng())
          .avif()
          .toBuffer(),
      ),
    422,
    'invalid_image',
    /./,
  ],
  [
    'a cut off GIF',
    async () =>
      cut(
        await sharp(await uniquePng())
          .gif()
          .toBuffer(),
      ),
    422,
    'invalid_image',
    /./,
  ],
  ['a PNG without pixels', async () => cut(await paint(64, 64).png().toBuffer(), 40), 422, 'invalid_image', /./],
  ['a PNG with other bytes in place of pixels', async () => await broken(), 422, 'invalid_image', /damaged or cut off/],
  ['SVG', async () => svg, 422, 'invalid_image', /PNG, JPEG, WebP, AVIF or GIF file, got something else/],
  ['HTML', async () => Buffer.from('<!doctype html><h1>Not a picture'), 422, 'invalid_image', /got something else/],
  ['TIFF', async () => await paint(64, 64).tiff().toBuffer(), 422, 'invalid_image', /got something else/],
  ['nothing', async () => Buffer.alloc(0), 422, 'invalid_image', /got nothing/],
  ['a PNG signature alone', async () => (await uniquePng()).subarray(0, 8), 422, 'invalid_image', /header cannot be read/],
  [
    'too many bytes',
    async () => Buffer.concat([await uniquePng(), Buffer.alloc(maxBytes)]),
    413,
    'image_too_large',
    /at most 200000 bytes/,
  ],
]
const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><image href="file:///etc/passwd"/></svg>')

function cut(bytes: Buffer, to = Math.floor(bytes.length / 2)): Buffer {
  return bytes.subarray(0, to)
}

/** The header of a picture, followed by bytes that are not pixels. */
async function broken(): Promise<Buffer> {
  const head = (await paint(64, 64).png().toBuffer()).subarray(0, 33)
  return Buffer.concat([head, chunk('IDAT', deflateSync(Buffer.from('no pixels'))), chunk('IEND', Buffer.alloc(0))])
}

describe.each(bad)('a picture that cannot be used: %s', (name, make, status, code, detail) => {
  test('is refused as an upload, as a data: URL and behind a URL, and nothing is stored', async () => {
    const bytes = await make()
    const before = await stored()
    const response = await api.get('/v1/uploads', { method: 'POST', body: new Uint8Array(bytes), headers: { 'Content-Type': 'image/png' } })
    const problem = (await response.json()) as Problem
    expect([response.status, problem.code, problem.errors?.[0]?.field]).toEqual([status, code, 'file'])
    expect(problem.detail).toMatch(detail)

    const path = `/${name.replaceAll(/\W/g, '-')}.png`
    web.pages.set(path, (answer) => answer.writeHead(200, { 'Content-Type': 'image/png' }).end(bytes))
    const good = `data:image/png;base64,${(await paint(32, 32).png().toBuffer()).toString('base64')}`
    for (const source of [`data:image/png;base64,${bytes.toString('base64')}`, web.url + path]) {
      for (const [field, pictures] of [
        ['image', { image: source }],
        ['mask', { image: good, mask: source }],
      ] as const) {
        const refused = await api.post('/v1/jobs', { prompt: 'a', ...pictures })
        const { code: told, errors } = (await refused.json()) as Problem
        expect([field, refused.status, told, errors?.[0]?.field]).toEqual([field, status, code, field])
      }
    }
    expect(await stored()).toEqual(before)
  })
})
