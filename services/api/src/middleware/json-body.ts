/**
 * Reads a request's body strictly before the route's schema sees it: JSON by its content type, valid UTF-8, within the size limit. The
 * framework alone would replace invalid UTF-8 by U+FFFD and accept the request, and it refuses content types that RFC 9110 allows.
 *
 * Invariant: the text is parsed once. Knows nothing about schemas, except that none has more than a few dozen fields. Runs in the api.
 */
import { MIMEType } from 'node:util'
import type { HonoRequest, MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import { refuseFields } from '../problems/refuse-fields.ts'

const jsonType = 'application/json'

/** The most fields in a body and in each object directly in it: validating many thousands would block the event loop for seconds. */
export const maxFields = 500

/** For the `middleware` of a route with a body. `maxBytes`: the largest body, counted as it arrives. */
export function jsonBody(maxBytes: number): MiddlewareHandler<AppEnv> {
  return createMiddleware(async function jsonBody(c, next) {
    const { headers } = c.req.raw
    const type = headers.get('Content-Type')
    if (type === null || !isUtf8Json(type)) {
      throw new ProblemError('unsupported_media_type', `Expected the content type ${jsonType}, got ${type?.slice(0, 100) ?? 'none'}.`)
    }
    const encoding = headers.get('Content-Encoding') ?? 'identity'
    if (encoding.trim().toLowerCase() !== 'identity') {
      throw new ProblemError('unsupported_media_type', `Expected a body without Content-Encoding, got ${encoding.slice(0, 100)}.`)
    }
    const value = parseJson(decode(await readBody(c.req, maxBytes)))
    refuseManyFields(value, '')
    if (isObject(value)) for (const [field, part] of Object.entries(value)) refuseManyFields(part, field)
    // The route's validator asks for both again, and accepts fewer spellings of the type than RFC 9110 allows.
    if (type !== jsonType) headers.set('Content-Type', jsonType)
    c.req.json = <T>() => Promise.resolve(value as T)
    await next()
  })
}

function isUtf8Json(type: string): boolean {
  try {
    const { essence, params } = new MIMEType(type)
    return essence === jsonType && (params.get('charset') ?? 'utf-8').toLowerCase() === 'utf-8'
  } catch {
    return false
  }
}

/** Apart from the size, this can only fail because the client closed the connection before its body was complete. */
async function readBody(request: HonoRequest, maxBytes: number): Promise<ArrayBuffer | Uint8Array> {
  const { headers } = request.raw
  const refuseAbove = (bytes: number): void => {
    const hint = `Expected at most ${maxBytes} bytes. Send a larger picture to POST /v1/uploads.`
    if (bytes > maxBytes) throw new ProblemError('body_too_large', hint)
  }
  const length = headers.get('Content-Length')
  try {
    // The server does not read more than was announced.
    if (length !== null && !headers.has('Transfer-Encoding')) {
      refuseAbove(Number(length))
      return await request.arrayBuffer()
    }
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of request.raw.body ?? []) {
      bytes += chunk.byteLength
      refuseAbove(bytes)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } catch (error) {
    if (error instanceof ProblemError) throw error
    throw new ProblemError('malformed_body', 'Expected the whole body, but the connection ended before it was complete.', { cause: error })
  }
}

function refuseManyFields(value: unknown, field: string): void {
  const fields = isObject(value) ? Object.keys(value).length : 0
  if (fields > maxFields) throw refuseFields([{ field, expected: `at most ${maxFields} fields`, received: String(fields) }])
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function decode(bytes: ArrayBuffer | Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new ProblemError('malformed_body', 'Expected valid UTF-8, got bytes that are not.', { cause: error })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ProblemError(
      'malformed_body',
      text.trim() === '' ? 'Expected JSON, got an empty body.' : 'Expected JSON, got something else.',
      { cause: error },
    )
  }
}
