/**
 * Reads the files in a request's body: a raw body, or the files of a form. No more bytes are read than allowed, and a file is in memory once: a
 * raw body is written into one buffer if its length is known, and a form is parsed while it arrives. Runs in the api.
 */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { Busboy } from '@fastify/busboy'
import type { HonoRequest } from 'hono'
import { ProblemError } from '@easel/contract'
import { maxFields } from '../middleware/json-body.ts'
import { PictureTooLarge } from './fetch-picture.ts'
import { toRefusal } from './take-picture.ts'

/** How many bytes a form may have besides its files, for names, boundaries and text. */
const formBytes = 1024 * 1024

export interface PictureBodyOptions {
  /** The largest file, in bytes. */
  maxBytes: number
  /** The most files in a form. */
  files: number
  /** The field of the request that holds the file, for errors. */
  field: string
}

/** The parts of a form, in the order in which they came. */
export interface PictureForm {
  files: { name: string; bytes: Uint8Array }[]
  texts: { name: string; text: string }[]
}

/** Throws `image_too_large` or `malformed_body`. */
export async function readForm(request: HonoRequest, { maxBytes, files, field }: PictureBodyOptions): Promise<PictureForm> {
  const form: PictureForm = { files: [], texts: [] }
  const manyParts = new ProblemError('malformed_body', `Expected a form of at most ${maxFields} parts, got more.`)
  const limits = { maxBytes: maxBytes * files + formBytes, tooLarge: tooLarge(field, maxBytes) }
  try {
    const parser = new Busboy({
      headers: { 'content-type': request.header('content-type') ?? '' },
      limits: { fieldSize: formBytes, parts: maxFields },
    })
    parser.on('partsLimit', () => parser.destroy(manyParts))
    parser.on('field', (name, text) => form.texts.push({ name, text }))
    parser.on('file', (name, stream) => {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      // Without this, a form that ends within a file would be taken for a complete one.
      stream.on('error', (error) => parser.destroy(error))
      stream.on('end', () => form.files.push({ name, bytes: Buffer.concat(chunks) }))
    })
    await pipeline(readChunks(request, limits), parser)
    return form
  } catch (error) {
    if (error === limits.tooLarge || error === manyParts) throw error
    throw new ProblemError('malformed_body', 'Expected multipart/form-data, got something else.', { cause: error })
  }
}

/** Throws `image_too_large` or `malformed_body`. */
export async function readFile(request: HonoRequest, { maxBytes, field }: Omit<PictureBodyOptions, 'files'>): Promise<Uint8Array> {
  const limits = { maxBytes, tooLarge: tooLarge(field, maxBytes) }
  const length = Number(request.header('content-length') ?? Number.NaN)
  const whole = length <= maxBytes ? Buffer.allocUnsafeSlow(length) : undefined
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of readChunks(request, limits)) {
      if (whole === undefined) chunks.push(chunk)
      else whole.set(chunk, bytes)
      bytes += chunk.byteLength
    }
  } catch (error) {
    if (error === limits.tooLarge) throw error
    throw new ProblemError('malformed_body', 'Expected the whole body, but the connection ended before it was complete.', { cause: error })
  }
  return whole?.subarray(0, bytes) ?? Buffer.concat(chunks)
}

/** The body as it arrives. Throws `tooLarge` if it is larger than `maxBytes`, or its Content-Length is. */
async function* readChunks(
  request: HonoRequest,
  { maxBytes, tooLarge }: { maxBytes: number; tooLarge: ProblemError },
): AsyncGenerator<Uint8Array> {
  if (Number(request.header('content-length') ?? 0) > maxBytes) throw tooLarge
  let bytes = 0
  if (request.raw.body === null) return
  for await (const chunk of Readable.fromWeb(request.raw.body as ReadableStream<Uint8Array>) as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength
    if (bytes > maxBytes) throw tooLarge
    yield chunk
  }
}

export function isForm(request: HonoRequest): boolean {
  return /^multipart\/form-data\b/i.test(request.header('content-type') ?? '')
}

function tooLarge(field: string, maxInputBytes: number): ProblemError {
  return toRefusal(new PictureTooLarge(), field, { maxInputBytes }) as ProblemError
}
