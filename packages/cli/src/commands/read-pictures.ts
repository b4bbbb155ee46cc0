/**
 * The picture and the mask that `easel draw` begins with: turns files or URLs from the command line into pixels of one size, by the same rules as
 * the service. Knows nothing about models.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { InputFit } from '@easel/contract'
import { fitMask, fitPicture, inspectPicture, sizeForPicture } from '@easel/input-pictures'
import type { InputPixels, PictureFacts, SizeRule } from '@easel/input-pictures'

/** The options of the command line. File paths are relative to `here`. */
export interface PictureOptions {
  here: string
  image: string
  mask?: string
  fit: InputFit
  size?: { width: number; height: number }
}

export interface DrawnPictures {
  image: InputPixels
  mask?: InputPixels
}

/** Reads and inspects the files at once, so that a wrong one is known before a model is loaded; their size follows from the model's rule. */
export async function readPictures({ here, image, mask, fit, size }: PictureOptions): Promise<(rule: SizeRule) => Promise<DrawnPictures>> {
  const picture = await readPicture('image', image, here)
  const painted = mask === undefined ? undefined : await readPicture('mask', mask, here)
  return async (rule) => {
    const frame = { ...sizeForPicture(picture.facts, size ?? {}, rule), fit }
    return {
      image: await fitPicture(picture.bytes, frame),
      mask: painted && (await fitMask(painted.bytes, picture.facts, frame)),
    }
  }
}

async function readPicture(option: 'image' | 'mask', source: string, here: string): Promise<{ bytes: Uint8Array; facts: PictureFacts }> {
  try {
    const bytes = /^(https?|data):/i.test(source) ? await fetchBytes(source) : await readFile(resolve(here, source))
    // There is no limit here, because users of the command line choose their own files.
    return { bytes, facts: await inspectPicture(bytes, { maxPixels: Infinity }) }
  } catch (error) {
    const { message, cause } = error as Error
    throw new Error(`--${option} ${source}: ${cause instanceof Error ? cause.message : message}`, { cause: error })
  }
}

async function fetchBytes(url: string): Promise<Uint8Array> {
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`Expected a picture, got an answer with status ${answer.status}`)
  return new Uint8Array(await answer.arrayBuffer())
}
