/** Pixels to files. The settings are fixed, so that the same pixels give the same bytes on every run. Runs in the worker's main process. */
import sharp, { type Sharp } from 'sharp'
import type { ImageFormat } from '@easel/contract'
import type { EngineImage } from './engine/protocol.ts'

export interface EncodeOptions {
  format: ImageFormat
  /** zlib level of PNG, 0 to 9. */
  pngCompressionLevel: number
  /** 1 to 100, for jpeg and webp. */
  quality: number
}

export const contentTypes = { png: 'image/png', jpeg: 'image/jpeg', webp: 'image/webp' } as const satisfies Record<ImageFormat, string>

export async function encodeImage(image: EngineImage, { format, pngCompressionLevel, quality }: EncodeOptions): Promise<Buffer> {
  const pixels = toSharp(image)
  if (format === 'png')
    return await pixels.png({ compressionLevel: pngCompressionLevel, adaptiveFiltering: false, palette: false }).toBuffer()
  return await (format === 'jpeg' ? pixels.jpeg({ quality }) : pixels.webp({ quality })).toBuffer()
}

/** A small JPEG as a data: URL. */
export async function encodePreview(image: EngineImage): Promise<string> {
  const bytes = await toSharp(image).jpeg({ quality: 70 }).toBuffer()
  return `data:image/jpeg;base64,${bytes.toString('base64')}`
}

function toSharp({ rgb, width, height }: EngineImage): Sharp {
  return sharp(rgb, { raw: { width, height, channels: 3 } })
}
