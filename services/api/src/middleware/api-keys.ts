/**
 * Who is calling: judges the API key of a request and names the owner of the jobs it makes.
 *
 * Invariant: a key is kept and compared as its SHA-256 only, always against every key and in constant time, and a path needs a key unless
 * it is listed as open. Knows nothing about jobs. Runs in the api.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import type { MiddlewareHandler } from 'hono'
import { ProblemError } from '@easel/contract'
import type { AppEnv } from '../app-deps.ts'

export interface ApiKey {
  /** How logs call the key; the first characters of its hash when it was given no name. */
  name: string
  /** SHA-256 of the key, 32 bytes. */
  hash: Buffer
  /** First 16 hex digits of the hash: owner of the jobs made with the key. */
  owner: string
}

/** Owner of all jobs while no keys are set. */
export const publicOwner = 'public'

const openPaths = new Set(['/', '/docs', '/openapi.json', '/livez', '/readyz', '/metrics', '/favicon.ico', '/admin/queues'])
const openFolders = ['/images/', '/playground/', '/docs/', '/admin/queues/']

/** Whether a path needs no API key: it is served to everyone, or asks for a key of its own. */
export function isOpenPath(path: string): boolean {
  return openPaths.has(path) || openFolders.some((folder) => path.startsWith(folder))
}

/** Parses `API_KEYS`: `name:key` or `key`, separated by commas. Errors name an entry by its place, never by its text. */
export function parseApiKeys(text: string): ApiKey[] {
  const keys = text.split(',').map((entry, i) => parseApiKey(entry.trim(), i + 1))
  if (new Set(keys.map((key) => key.owner)).size !== keys.length) throw new Error('Expected every key once, got one twice')
  if (new Set(keys.map((key) => key.name)).size !== keys.length) throw new Error('Expected every name once, got one twice')
  return keys
}

function parseApiKey(entry: string, place: number): ApiKey {
  const colon = entry.indexOf(':')
  const key = entry.slice(colon + 1)
  if (!/^[\x21-\x7e]{8,256}$/.test(key)) {
    throw new Error(`Expected 8 to 256 visible ASCII characters as key ${place}, got ${key.length} characters`)
  }
  if (colon >= 0 && !/^[\w.-]{1,64}$/.test(entry.slice(0, colon))) {
    throw new Error(`Expected a name of letters, digits, '.', '_' or '-' before the ':' of key ${place}`)
  }
  const hash = hashKey(key)
  const owner = hash.toString('hex').slice(0, 16)
  return { name: colon < 0 ? owner.slice(0, 8) : entry.slice(0, colon), hash, owner }
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

function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
