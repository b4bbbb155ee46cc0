/**
 * Determines who is calling: checks the API key of a request and names the owner of the jobs it makes.
 *
 * Invariant: a path needs a key unless it is listed as open. Knows nothing about jobs. Runs in the api.
 */
import { createMiddleware } from 'hono/factory'
import type { MiddlewareHandler } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import type { ApiKeyRing } from '../api-key-ring.ts'
import { publicOwner } from '../parse-api-keys.ts'
import type { CountWrongKey } from './wrong-keys.ts'

const openPaths = new Set(['/', '/docs', '/openapi.json', '/livez', '/readyz', '/metrics', '/favicon.ico', '/admin'])
// A client that sends a file to fal's storage presents the ticket in its URL.
const openFolders = ['/images/', '/fal/storage/', '/playground/', '/docs/', '/admin/']

/** Whether a path needs no API key, because it is served to everyone or asks for a key of its own. */
export function isOpenPath(path: string): boolean {
  return openPaths.has(path) || openFolders.some((folder) => path.startsWith(folder))
}

export function apiKeys(ring: ApiKeyRing, countWrongKey: CountWrongKey): MiddlewareHandler<AppEnv> {
  return createMiddleware(async function apiKeys(c, next) {
    c.set('owner', publicOwner)
    if (ring.keys.length > 0 && !isOpenPath(c.req.path)) {
      const presented = presentedKey(c.req.header('authorization'), c.req.header('x-api-key'))
      const caller = ring.find(presented)
      if (caller === undefined) {
        if (presented !== '') await countWrongKey(c, 'API key')
        c.header('WWW-Authenticate', 'Bearer realm="easel"')
        throw new ProblemError('unauthorized', 'Expected one of the API keys in Authorization: Bearer KEY, or in X-API-Key.')
      }
      c.set('owner', caller.owner)
      c.set('logger', c.var.logger.child({ apiKey: caller.owner }))
      // Answers to a key must not be kept in a shared cache, unless the route says otherwise.
      c.header('Cache-Control', 'no-store')
    }
    await next()
  })
}

/** `Bearer` is the standard scheme; clients of other services send `Key` and `Token`. */
function presentedKey(authorization: string | undefined, header: string | undefined): string {
  const match = /^(?:bearer|key|token) +(\S+) *$/i.exec(authorization ?? '')
  return match?.[1] ?? header?.trim() ?? ''
}
