/** Encodes pixels as files. The settings are fixed, so the same pixels give the same bytes in every run. Runs in the worker's main process. */
import sharp, { type Sharp } from 'sharp'
import type { ImageFormat } from '@easel/contract'
import type { ImageDescription } from './describe-image.ts'
import type { EngineImage } from '../engine/protocol.ts'
import { insertPngTexts } from './png-text.ts'

export interface EncodeOptions {
  format: ImageFormat
  /** zlib level of PNG, 0 to 9. */
  pngCompressionLevel: number
  /** 1 to 100, for jpeg and webp. */
  quality: number
  /** What the file says about how it was made. Default nothing. */
  description?: ImageDescription | undefined
}

export const contentTypes = { png: 'image/png', jpeg: 'image/jpeg', webp: 'image/webp' } as const satisfies Record<ImageFormat, string>

// No picture is encoded twice, so a cache would be useless.
sharp.cache(false)

/** libvips omits longer XMP from a JPEG, whose segments are limited to 64 KiB. */
const maxJpegXmpBytes = 60_000

export async function encodeImage(image: EngineImage, options: EncodeOptions): Promise<Buffer> {
  const { format, pngCompressionLevel, quality, description } = options
  const pixels = toSharp(image)
  if (format === 'png') {
    const file = await pixels.png({ compressionLevel: pngCompressionLevel, adaptiveFiltering: false, palette: false }).toBuffer()
    if (description === undefined) return file
    const parameters = { keyword: 'parameters', text: description.parameters }
    return insertPngTexts(file, [parameters, { keyword: 'XML:com.adobe.xmp', text: description.toXmp(), international: true }])
  }
  const described = description === undefined ? pixels : pixels.withXmp(fitXmp(description, format))
  return await (format === 'jpeg' ? described.jpeg({ quality }) : described.webp({ quality })).toBuffer()
}

/** A description that is too long for a JPEG keeps the mark and omits the text. */
function fitXmp({ parameters, toXmp }: ImageDescription, format: ImageFormat): string {
  const xmp = toXmp(parameters)
  return format === 'jpeg' && Buffer.byteLength(xmp) > maxJpegXmpBytes ? toXmp() : xmp
}

/** Longest side in pixels: wide enough for a picture in a gallery on a screen of double density. */
const thumbnailSide = 384
const thumbnailQuality = 80
/** WebP's compression effort, 0 to 6. The default of 4 takes twice as long and saves five per cent of the bytes. */
const thumbnailEffort = 2

/**
 * A small copy as WebP, or undefined if the picture is no larger than that. Its XMP marks it as generated but does not contain the
 * prompt.
 */
export async function encodeThumbnail(image: EngineImage, description?: ImageDescription): Promise<Buffer | undefined> {
  if (Math.max(image.width, image.height) <= thumbnailSide) return undefined
  const small = toSharp(image).resize(thumbnailSide, thumbnailSide, { fit: 'inside' })
  const described = description === undefined ? small : small.withXmp(description.toXmp())
  return await described.webp({ quality: thumbnailQuality, effort: thumbnailEffort }).toBuffer()
}

/** A small JPEG as a data: URL. */
export async function encodePreview(image: EngineImage): Promise<string> {
  const bytes = await toSharp(image).jpeg({ quality: 70 }).toBuffer()
  return `data:image/jpeg;base64,${bytes.toString('base64')}`
}

function toSharp({ rgb, width, height }: EngineImage): Sharp {
  return sharp(rgb, { raw: { width, height, channels: 3 } })
}
