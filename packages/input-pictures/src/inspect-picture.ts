/**
 * Says what an input picture is, or why it cannot be one: by its first bytes, then its header, then all of it decoded and thrown away, so
 * that nothing is queued that a worker could not read. Each look is cheaper than the next, and what a header promises is believed to be as
 * large as that.
 *
 * Decoding runs in threads of libvips and never in the event loop, two pictures at a time of the four threads that Node has for this and
 * for files. Rows stream through where the format allows it; a file that lists its pixels in several passes (a progressive JPEG, an interlaced
 * PNG) is held whole, at up to 8 bytes a pixel. Runs in the api and in the command line.
 */
import pLimit from 'p-limit'
import sharp from 'sharp'
import { inputContentTypes, minInputSide } from '@easel/contract'
import type { InputPicture } from '@easel/contract'

type ContentType = InputPicture['content_type']
export type PictureFacts = Pick<InputPicture, 'width' | 'height' | 'content_type'>

/** Why the bytes are no picture that can be used. */
export class UnusablePicture extends Error {
  override readonly name = 'UnusablePicture'
  readonly expected: string
  readonly received: string

  constructor(expected: string, received: string) {
    super(`Expected ${expected}, got ${received}`)
    this.expected = expected
    this.received = received
  }
}

// Otherwise libvips keeps the decoders of the latest files with all their memory: 140 MB for each progressive JPEG of 50 million pixels.
sharp.cache(false)

const decoding = pLimit(2)
const decodingLarge = pLimit(1)
/** Pictures with more pixels than this are decoded one at a time, because each may take hundreds of megabytes meanwhile. */
const largePixels = 10_000_000
/** Longest time that a picture may take to decode. */
const decodeSeconds = 30
const formats = 'a PNG, JPEG, WebP, AVIF or GIF file'

/** Throws `UnusablePicture`. */
export async function inspectPicture(bytes: Uint8Array, { maxPixels }: { maxPixels: number }): Promise<PictureFacts> {
  const contentType = toContentType(bytes)
  // Only what is one of these by its first bytes is shown to the library: it knows formats that can do more than hold pixels.
  if (contentType === undefined) throw new UnusablePicture(formats, bytes.byteLength === 0 ? 'nothing' : 'something else')
  const { width, height } = await readSize(bytes)
  if (width < minInputSide || height < minInputSide) {
    throw new UnusablePicture(`a picture with sides of at least ${minInputSide} pixels`, `${width} × ${height}`)
  }
  if (width * height > maxPixels) throw new UnusablePicture(`a picture of at most ${maxPixels} pixels`, `${width} × ${height}`)
  await decodeInTurn(width * height, async () => await decode(bytes))
  return { width, height, content_type: contentType }
}

/** Decodes a picture of so many pixels when no more memory is taken by others than there should be. */
export async function decodeInTurn<Result>(pixels: number, decode: () => Promise<Result>): Promise<Result> {
  return await (pixels > largePixels ? decodingLarge(() => decoding(decode)) : decoding(decode))
}

/** As its orientation asks for. */
async function readSize(bytes: Uint8Array): Promise<{ width: number; height: number }> {
  try {
    const { autoOrient } = await sharp(bytes, { limitInputPixels: false }).metadata()
    return autoOrient
  } catch {
    throw new UnusablePicture(formats, 'one whose header cannot be read')
  }
}

async function decode(bytes: Uint8Array): Promise<void> {
  try {
    // To have few pixels of the result, all of the file must be read.
    const small = sharp(bytes, { limitInputPixels: false, failOn: 'error', sequentialRead: true }).resize(8, 8, { fit: 'fill' })
    await small.timeout({ seconds: decodeSeconds }).raw().toBuffer()
  } catch {
    throw new UnusablePicture('a picture that can be decoded', 'one that is damaged or cut off')
  }
}

const types: Record<ContentType, (bytes: Buffer) => boolean> = {
  'image/png': (bytes) => bytes.toString('latin1', 0, 8) === '\x89PNG\r\n\x1a\n',
  'image/jpeg': (bytes) => bytes.toString('latin1', 0, 3) === '\xff\xd8\xff',
  'image/webp': (bytes) => bytes.toString('latin1', 0, 4) === 'RIFF' && bytes.toString('latin1', 8, 12) === 'WEBP',
  'image/avif': (bytes) => bytes.toString('latin1', 4, 8) === 'ftyp' && /avi[fs]/.test(bytes.toString('latin1', 8, 64)),
  'image/gif': (bytes) => /^GIF8[79]a/.test(bytes.toString('latin1', 0, 6)),
}

function toContentType(bytes: Uint8Array): ContentType | undefined {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 64))
  return inputContentTypes.find((type) => types[type](head))
}
