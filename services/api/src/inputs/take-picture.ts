/**
 * Gets a picture that a request names: finds it, checks the limits and decodes it once. Stores nothing. Runs in the api.
 */
import { createHash } from 'node:crypto'
import { parseImageFileName } from '@easel/contract'
import type { InputPicture } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'
import { isPastRetention } from '../past-retention.ts'
import { describeValue } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'
import { toPublicUrl } from '../public-url.ts'
import { PictureTooLarge, fetchPicture } from './fetch-picture.ts'
import { findUpload } from './find-upload.ts'
import type { TakenPicture } from './hold-inputs.ts'
import type { PictureField, PictureSource, PictureSources, SentPicture } from './picture-source.ts'
import { UnusablePicture, inspectPicture } from '@easel/input-pictures'
import type { PictureFacts } from '@easel/input-pictures'

export type TakeNeeds = Pick<AppDeps, 'apiKeys' | 'config' | 'inputs' | 'now' | 'storage'>

export interface TakeOptions {
  owner: string
  /** The picture that a job of the owner was given; undefined when there is none. */
  findOfJob: (id: string, field: PictureField) => Promise<InputPicture | undefined>
}

/** The pictures of a request, by field. */
export type TakenPictures = { [Field in PictureField]?: TakenPicture }

/** Throws `invalid_image` or `image_too_large`. */
export async function takePictures(deps: TakeNeeds, { image, mask }: PictureSources, options: TakeOptions): Promise<TakenPictures> {
  const taken: TakenPictures = {}
  if (image !== undefined) taken.image = await takePicture(deps, image, 'image', options)
  if (mask !== undefined) taken.mask = await takePicture(deps, mask, 'mask', options)
  return taken
}

/** `field`: the field of the request, for errors. Throws `invalid_image` or `image_too_large`. */
async function takePicture(deps: TakeNeeds, source: PictureSource, field: PictureField, options: TakeOptions): Promise<TakenPicture> {
  try {
    if (isSent(source)) return source
    const found = typeof source === 'string' ? await findSource(deps, source, field, options) : source
    return found instanceof Uint8Array ? await takeBytes(deps, found) : { picture: found }
  } catch (error) {
    throw toRefusal(error, field, deps.config)
  }
}

/** Throws `UnusablePicture` or `PictureTooLarge`. */
export async function takeBytes({ config }: Pick<AppDeps, 'config'>, bytes: Uint8Array): Promise<SentPicture> {
  if (bytes.byteLength > config.maxInputBytes) throw new PictureTooLarge()
  return toSent(bytes, await inspectPicture(bytes, { maxPixels: config.maxInputPixels }))
}

/** `facts`: the result of inspecting the bytes. */
export function toSent(bytes: Uint8Array, facts: PictureFacts): SentPicture {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return { picture: { sha256, bytes: bytes.byteLength, ...facts }, bytes }
}

export function isSent(source: PictureSource | undefined): source is SentPicture {
  return typeof source === 'object' && 'picture' in source
}

/** The problem that a client sees; other errors are returned unchanged. */
export function toRefusal(error: unknown, field: string, { maxInputBytes }: Pick<AppDeps['config'], 'maxInputBytes'>): unknown {
  if (error instanceof UnusablePicture) {
    return refuseFields([{ field, expected: error.expected, received: error.received }], 'invalid_image')
  }
  if (!(error instanceof PictureTooLarge)) return error
  return refuseFields([{ field, expected: `a file of at most ${maxInputBytes} bytes`, received: 'a larger one' }], 'image_too_large')
}

async function findSource(
  deps: TakeNeeds,
  text: string,
  field: PictureField,
  { owner, findOfJob }: TakeOptions,
): Promise<InputPicture | Uint8Array> {
  const { config } = deps
  if (text.startsWith('upload:')) return await findUploadOf(deps, text.slice('upload:'.length), owner)
  if (text.startsWith('job:')) {
    const id = text.slice('job:'.length)
    const picture = await findOfJob(id, field)
    if (picture !== undefined) return picture
    throw new UnusablePicture(`a job of yours with ${field === 'mask' ? 'a mask' : 'an image'}`, describeValue(id))
  }
  if (/^data:/i.test(text)) return await readDataUrl(text)
  const path = toOwnPath(text, [toPublicUrl(config), config.publicUrl])
  if (path === undefined) return await fetchPicture(text, { allowInsecure: config.inputAllowInsecure, maxBytes: config.maxInputBytes })
  const [, folder = '', name = ''] = /^\/(images|v1\/uploads)\/([^/]+)$/.exec(path) ?? []
  if (folder === 'images') return await readResult(deps, name)
  if (folder === 'v1/uploads') return await findUploadOf(deps, name, owner)
  throw new UnusablePicture('the URL of a picture', 'another URL of this server')
}

async function findUploadOf(deps: TakeNeeds, id: string, owner: string): Promise<InputPicture> {
  const upload = await findUpload(deps, id, owner)
  if (upload === undefined) throw new UnusablePicture('an upload of yours that has not expired', describeValue(id))
  const { sha256, bytes, width, height, content_type } = upload
  return { sha256, bytes, width, height, content_type }
}

/** Decoded by Node's fetch; its size is limited by that of the body. */
async function readDataUrl(text: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await (await fetch(text)).arrayBuffer())
  } catch {
    throw new UnusablePicture('a valid data: URL', 'one that cannot be decoded')
  }
}

/** A picture of a job by its stable name, which is open to anyone who knows the name. */
async function readResult(deps: TakeNeeds, file: string): Promise<Uint8Array> {
  const { config, storage } = deps
  const name = parseImageFileName(file)
  const object = name === undefined ? undefined : await storage.open(name.key)
  if (object === undefined || isPastRetention(deps, object.lastModified.getTime())) {
    await object?.body.cancel()
    throw new UnusablePicture('a picture that exists', `${describeValue(file)}, which does not`)
  }
  if (object.size > config.maxInputBytes) {
    await object.body.cancel()
    throw new PictureTooLarge()
  }
  return new Uint8Array(await new Response(object.body).arrayBuffer())
}

/** The path below one of this server's URLs; undefined for a URL of another server. */
function toOwnPath(text: string, publicUrls: readonly string[]): string | undefined {
  const url = URL.parse(text)
  for (const own of publicUrls.map((publicUrl) => new URL(publicUrl))) {
    const base = own.pathname.replace(/\/$/, '')
    if (url?.origin === own.origin && url.pathname.startsWith(`${base}/`)) return url.pathname.slice(base.length)
  }
  return undefined
}
