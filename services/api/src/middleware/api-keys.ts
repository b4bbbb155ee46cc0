/**
 * Who is calling: judges the API key of a request and names the owner of the jobs it makes.
 *
 * Invariant: a key is compared as its SHA-256 only, always against every key and in constant time, and a path needs a key unless
 * it is listed as open. Knows nothing about jobs. Runs in the api.
 */
import { timingSafeEqual } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import type { MiddlewareHandler } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'
import { hashKey } from '../parse-api-keys.ts'
import type { ApiKey } from '../parse-api-keys.ts'

/** Owner of all jobs while no keys are set. */
export const publicOwner = 'public'

const openPaths = new Set(['/', '/docs', '/openapi.json', '/livez', '/readyz', '/metrics', '/favicon.ico', '/admin/queues'])
const openFolders = ['/images/', '/playground/', '/docs/', '/admin/queues/']

/** Whether a path needs no API key: it is served to everyone, or asks for a key of its own. */
export function isOpenPath(path: string): boolean {
  return openPaths.has(path) || openFolders.some((folder) => path.startsWith(folder))
}

export function apiKeys(keys: readonly ApiKey[]): MiddlewareHandler<AppEnv> {
  return createMiddleware(async function apiKeys(c, next) {
    c.set('owner', publicOwner)
    if (keys.length > 0 && !isOpenPath(c.req.path)) {
      const caller = findKey(keys, presentedKey(c.req.header('authorization'), c.req.header('x-api-key')))
      if (caller === undefined) {
        c.header('WWW-Authenticate', 'Bearer realm="easel"')
        throw new ProblemError('unauthorized', 'Expected one of the API keys in Authorization: Bearer KEY, or in X-API-Key.')
      }
      c.set('owner', caller.owner)
      c.set('logger', c.var.logger.child({ apiKey: caller.name }))
    }
    await next()
  })
}

/** `Bearer` is the standard's word, `Key` and `Token` are what clients of other services send. */
function presentedKey(authorization: string | undefined, header: string | undefined): string {
  const match = /^(?:bearer|key|token) +(\S+) *$/i.exec(authorization ?? '')
  return match?.[1] ?? header?.trim() ?? ''
}

function findKey(keys: readonly ApiKey[], presented: string): ApiKey | undefined {
  const hash = hashKey(presented)
  // Looks at all of them: the time must not tell which one came close.
  return keys.filter((key) => timingSafeEqual(key.hash, hash))[0]
}
