/**
 * Reads a request's body the strict way before a route's schema sees it: JSON by its content type, valid UTF-8, within the size limit.
 * The framework alone would replace broken UTF-8 by U+FFFD and let the request through.
 */
import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { createMiddleware } from 'hono/factory'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'

const jsonType = /^application\/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?$/i

/** For the `middleware` of a route with a body. `maxBytes`: largest body, counted on what arrives. */
export function jsonBody(maxBytes: number): MiddlewareHandler<AppEnv>[] {
  const refuse = (): never => {
    throw new ProblemError('body_too_large', `Expected at most ${maxBytes} bytes.`)
  }
  const countingLimit = bodyLimit({ maxSize: maxBytes, onError: refuse })
  const limit = createMiddleware<AppEnv>(async function limitBody(c, next) {
    const length = c.req.header('Content-Length')
    // The server reads no more than was announced. Counting costs a second request object with a stream.
    if (length === undefined || c.req.header('Transfer-Encoding') !== undefined) return await countingLimit(c, next)
    if (Number(length) > maxBytes) refuse()
    await next()
  })
  const parse = createMiddleware<AppEnv>(async function parseJsonBody(c, next) {
    const type = c.req.header('Content-Type')
    if (type === undefined || !jsonType.test(type.trim())) {
      throw new ProblemError('unsupported_media_type', `Expected the content type application/json, got ${type ?? 'none'}.`)
    }
    const encoding = c.req.header('Content-Encoding') ?? 'identity'
    if (encoding.trim().toLowerCase() !== 'identity') {
      throw new ProblemError('unsupported_media_type', `Expected a body without Content-Encoding, got ${encoding}.`)
    }
    const text = decode(await c.req.arrayBuffer())
    parseJson(text)
    // Where the framework keeps what it has read, as promises. From the bytes it would make a response to decode them a second time.
    c.req.bodyCache.text = Promise.resolve(text) as unknown as string
    await next()
  })
  return [limit, parse]
}

function decode(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new ProblemError('malformed_body', 'Expected valid UTF-8, got bytes that are not.', { cause: error })
  }
}

function parseJson(text: string): void {
  try {
    JSON.parse(text)
  } catch (error) {
    throw new ProblemError(
      'malformed_body',
      text.trim() === '' ? 'Expected JSON, got an empty body.' : 'Expected JSON, got something else.',
      { cause: error },
    )
  }
}
