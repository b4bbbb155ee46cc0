/**
 * Says what an input picture is, or why it cannot be one: by its first bytes, then by its header, then by decoding it once, so that nothing is
 * queued that a worker could not read. Each check is cheaper than the next, and the size in the header is trusted before anything is decoded.
 *
 * Decoding runs in threads and never in the event loop: two pictures at a time, of the four threads that Node has for this and for files. Rows
 * are streamed where the format allows it; a file that stores its pixels in several passes (a progressive JPEG, an interlaced PNG) is held
 * whole, at up to 8 bytes a pixel. Runs in the api and in the command line.
 */
import pLimit from 'p-limit'
import sharp from 'sharp'
import { inputContentTypes, minInputSide } from '@easel/contract'
import type { InputPicture } from '@easel/contract'

type ContentType = InputPicture['content_type']
export type PictureFacts = Pick<InputPicture, 'width' | 'height' | 'content_type'>

/** Why the bytes are not a usable picture. */
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
/** Pictures with more pixels than this are decoded one at a time, because each may take hundreds of megabytes. */
const largePixels = 10_000_000
/** The longest time that decoding a picture may take. */
const decodeSeconds = 30
const formats = 'a PNG, JPEG, WebP, AVIF or GIF file'

/** Throws `UnusablePicture`. */
export async function inspectPicture(bytes: Uint8Array, { maxPixels }: { maxPixels: number }): Promise<PictureFacts> {
  const contentType = toContentType(bytes)
  // Only files whose first bytes are of these formats reach the library, because it also reads formats that hold more than pixels.
  if (contentType === undefined) throw new UnusablePicture(formats, bytes.byteLength === 0 ? 'nothing' : 'something else')
  const { width, height } = await readSize(bytes)
  if (width < minInputSide || height < minInputSide) {
    throw new UnusablePicture(`a picture with sides of at least ${minInputSide} pixels`, `${width} × ${height}`)
  }
  if (width * height > maxPixels) throw new UnusablePicture(`a picture of at most ${maxPixels} pixels`, `${width} × ${height}`)
  await decodeInTurn(width * height, async () => await decode(bytes))
  return { width, height, content_type: contentType }
}

/** Decodes a picture of this many pixels in its turn, so that not too much memory is in use at once. */
export async function decodeInTurn<Result>(pixels: number, decode: () => Promise<Result>): Promise<Result> {
  return await (pixels > largePixels ? decodingLarge(() => decoding(decode)) : decoding(decode))
}

/** The size after applying the file's orientation. */
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
    // The result is tiny, but to compute it the whole file has to be read.
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
