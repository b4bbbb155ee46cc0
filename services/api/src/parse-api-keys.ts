/**
 * What `API_KEYS` means. Invariant: a key is kept as its SHA-256 only, and no error shows one. Imports nothing of the service, so that the
 * configuration and the middleware can both use it.
 */
import { createHash } from 'node:crypto'

export interface ApiKey {
  /** How logs call the key; the first characters of its hash when it was given no name. */
  name: string
  /** SHA-256 of the key, 32 bytes. */
  hash: Buffer
  /** First 16 hex digits of the hash: owner of the jobs made with the key. */
  owner: string
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

export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
