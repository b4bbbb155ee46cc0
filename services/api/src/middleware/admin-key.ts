/**
 * Admits requests with the operator's key: as the password of Basic with any user name, so that a browser can ask for it, or as a Bearer token.
 *
 * Invariant: keys are compared as hashes and in constant time. Knows nothing about API keys of clients. Runs in the api.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import type { CountWrongKey } from './wrong-keys.ts'

export function adminKey(key: string, countWrongKey: CountWrongKey) {
  const expected = hash(key)
  return createMiddleware<AppEnv>(async function adminKey(c, next) {
    const presented = presentedKey(c.req.header('authorization'))
    if (!timingSafeEqual(hash(presented), expected)) {
      // A browser first asks without a key.
      if (presented !== '') await countWrongKey(c, 'admin key')
      c.header('WWW-Authenticate', 'Basic realm="easel admin"')
      throw new ProblemError('unauthorized', 'Expected ADMIN_KEY as the password of Authorization: Basic, or as Authorization: Bearer KEY.')
    }
    await next()
  })
}

function presentedKey(authorization = ''): string {
  const [scheme = '', credentials = ''] = authorization.split(/ +/)
  if (scheme.toLowerCase() === 'bearer') return credentials
  if (scheme.toLowerCase() !== 'basic') return ''
  const text = Buffer.from(credentials, 'base64').toString()
  return text.slice(text.indexOf(':') + 1)
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
