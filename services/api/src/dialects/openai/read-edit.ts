/**
 * Reads the form of POST /v1/images/edits: text becomes the values that the schema of a JSON body expects, files become the picture and the
 * mask of a job. OpenAI's masks are transparent where to paint; ours are white there. Runs in the api.
 */
import type { Context } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppDeps, AppEnv } from '../../app-deps.ts'
import { PictureTooLarge } from '../../inputs/fetch-picture.ts'
import { toMaskOfAlpha } from '../../inputs/mask-of-alpha.ts'
import { isForm, readForm } from '../../inputs/read-picture-body.ts'
import type { PictureForm } from '../../inputs/read-picture-body.ts'
import { takeBytes, toRefusal } from '../../inputs/take-picture.ts'
import type { SentPicture } from '../../inputs/picture-source.ts'
import { refuseFields } from '../../problems/refuse-fields.ts'
import { editRequestSchema } from './to-request.ts'

export interface EditForm {
  /** Not validated yet. */
  fields: Record<string, unknown>
  image: SentPicture
  mask: SentPicture | undefined
}

/** Call it while holding a place for pictures (`withPlace`). */
export async function readEdit({ config }: Pick<AppDeps, 'config'>, c: Context<AppEnv>): Promise<EditForm> {
  if (!isForm(c.req)) throw new ProblemError('unsupported_media_type', 'Expected multipart/form-data.')
  const form = await readForm(c.req, { maxBytes: config.maxInputBytes, files: 2, field: 'image' })
  for (const field of ['image', 'mask']) {
    const isText = form.texts.some(({ name }) => name === field || name === `${field}[]`)
    if (isText) throw refuseFields([{ field, expected: 'a picture, as a file', received: 'text' }], 'invalid_image')
  }
  const [images, masks] = [filesOf(form, 'image'), filesOf(form, 'mask')]
  const [image] = images
  if (image === undefined || images.length > 1) {
    const received = images.length === 0 ? 'none' : `${images.length}`
    throw refuseFields([{ field: 'image', expected: 'one picture, as a file', received }], 'invalid_image')
  }
  if (masks.length > 1) throw refuseFields([{ field: 'mask', expected: 'one mask', received: `${masks.length}` }], 'invalid_image')
  const read = async (file: Uint8Array, field: string): Promise<SentPicture> => {
    try {
      return await takeBytes({ config }, file)
    } catch (error) {
      throw toRefusal(error, field, config)
    }
  }
  const taken = await read(image, 'image')
  const [maskFile] = masks
  const mask = await toMaskOfAlpha((maskFile === undefined ? taken : await read(maskFile, 'mask')).bytes)
  if (maskFile !== undefined && mask === undefined) {
    const expected = 'a picture that is transparent where to repaint'
    throw refuseFields([{ field: 'mask', expected, received: 'one that is opaque' }], 'invalid_image')
  }
  if (mask !== undefined && mask.picture.bytes > config.maxInputBytes) throw toRefusal(new PictureTooLarge(), 'mask', config)
  return { fields: readText(form), image: taken, mask }
}

/** Clients that send lists name each entry like the list, followed by `[]`. */
function filesOf({ files }: PictureForm, name: string): Uint8Array[] {
  return files.filter((file) => file.name === name || file.name === `${name}[]`).map(({ bytes }) => bytes)
}

function readText({ texts }: PictureForm): Record<string, unknown> {
  // A map, because the client chooses the names.
  const fields = new Map<string, unknown>()
  for (const { name, text } of texts) {
    const list = /^(.+)\[\]$/.exec(name)?.[1]
    if (list === undefined) fields.set(name, toValue(name, text))
    else {
      const before = fields.get(list) ?? []
      fields.set(list, [...(Array.isArray(before) ? (before as unknown[]) : [before]), toValue(list, text)])
    }
  }
  return Object.fromEntries(fields)
}

/** The text itself where the schema expects text, otherwise the text parsed as JSON. */
function toValue(name: string, text: string): unknown {
  const { shape } = editRequestSchema
  if (!Object.hasOwn(shape, name) || shape[name as keyof typeof shape].safeParse(text).success) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
