/**
 * Turns a picture file into the pixels that a run starts from, and a mask file into the pixels that say where it paints.
 *
 * Invariant: the same bytes and sizes give the same pixels on every run. Orientation is applied, colours become 8-bit sRGB, and what is
 * transparent lies on white; a mask is grey on black, so that what it does not cover is kept. Decoding and resizing run in libvips' threads.
 * Knows nothing about where files come from; they have been inspected before. Runs in the worker's main process and in the command line.
 */
import sharp, { type Sharp } from 'sharp'
import type { InputFit } from '@easel/contract'

/** 8-bit pixels, rows from the top, one or three bytes each. */
export interface InputPixels {
  readonly data: Uint8Array
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
}

export interface Frame {
  /** Pixels of the result. */
  readonly width: number
  /** Pixels of the result. */
  readonly height: number
  /** `cover` fills the frame and crops the rest evenly, `contain` shows the whole picture on black, `fill` stretches it. */
  readonly fit: InputFit
}

/** RGB bytes. */
export async function fitPicture(file: Uint8Array, frame: Frame): Promise<InputPixels> {
  return await toPixels(fitInto(decode(file, '#fff').toColourspace('srgb'), frame), 3)
}

/** Grey bytes. The mask is first stretched to the size of its picture, so that the two stay aligned in any fit; padding is black. */
export async function fitMask(file: Uint8Array, picture: { width: number; height: number }, frame: Frame): Promise<InputPixels> {
  const grey = decode(file, '#000').toColourspace('b-w')
  const stretched = await toPixels(fitInto(grey, { ...picture, fit: 'fill' }), 1)
  const { data, width, height } = stretched
  return await toPixels(fitInto(sharp(data, { raw: { width, height, channels: 1 } }).toColourspace('b-w'), frame), 1)
}

/** `background`: the colour behind transparent pixels. */
function decode(file: Uint8Array, background: string): Sharp {
  // The size was checked when the file came in; only the first frame of an animation is read.
  return sharp(file, { limitInputPixels: false }).autoOrient().flatten({ background })
}

function fitInto(image: Sharp, { width, height, fit }: Frame): Sharp {
  return image.resize(width, height, { fit, background: '#000' })
}

async function toPixels(image: Sharp, channels: 1 | 3): Promise<InputPixels> {
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  if (info.channels !== channels) throw new Error(`Expected pixels of ${channels} channels, got ${info.channels}`)
  return { data, width: info.width, height: info.height }
}
