/** Reads the files in a request's body: a raw body, or files in a form. No more bytes are read than allowed. Runs in the api. */
import type { HonoRequest } from 'hono'
import { ProblemError } from '@easel/contract'
import { readBody } from '../middleware/json-body.ts'
import { PictureTooLarge } from './fetch-picture.ts'
import { toRefusal } from './take-picture.ts'

/** How many bytes a form may have besides its files, for names, boundaries and text. */
const formBytes = 1024 * 1024

export interface PictureBodyOptions {
  /** The largest file, in bytes. */
  maxBytes: number
  /** The most files in a form. */
  files: number
  /** The request's name for its file, for errors. */
  field: string
}

/** Throws `image_too_large` or `malformed_body`. */
export async function readForm(request: HonoRequest, { maxBytes, files, field }: PictureBodyOptions): Promise<FormData> {
  const type = request.header('content-type') ?? ''
  const bytes = await readBody(request, maxBytes * files + formBytes, tooLarge(field, maxBytes))
  try {
    return await new Response(new Uint8Array(bytes), { headers: { 'Content-Type': type } }).formData()
  } catch (error) {
    throw new ProblemError('malformed_body', 'Expected multipart/form-data, got something else.', { cause: error })
  }
}

export async function readFile(request: HonoRequest, { maxBytes, field }: Omit<PictureBodyOptions, 'files'>): Promise<Uint8Array> {
  return new Uint8Array(await readBody(request, maxBytes, tooLarge(field, maxBytes)))
}

export function isForm(request: HonoRequest): boolean {
  return /^multipart\/form-data\b/i.test(request.header('content-type') ?? '')
}

function tooLarge(field: string, maxInputBytes: number): ProblemError {
  return toRefusal(new PictureTooLarge(), field, { maxInputBytes }) as ProblemError
}
