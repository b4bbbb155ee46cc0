/**
 * Parses `API_KEYS` and the file named by `API_KEYS_FILE`. Invariant: a key is kept only as its SHA-256, and no error shows one. Imports nothing
 * from the service, so that both the configuration and the middleware can use it.
 */
import { createHash } from 'node:crypto'

export interface ApiKey {
  /** SHA-256 of the key, 32 bytes. */
  hash: Buffer
  /** The owner of jobs made with the key, and its name in logs: the key's name, or the first 16 hex digits of its hash. */
  owner: string
  /** The owner of jobs made with the key by an Easel in which names were not owners; the same as `owner` when it has no name. */
  formerOwner: string
  /** The weight of its owner when several owners have jobs waiting, above 0. Default 1. */
  weight: number
}

/** Jobs made while no keys are set belong to this owner. */
export const publicOwner = 'public'

const largestWeight = 1000

/** Parses `key`, `name:key` or `name*weight:key`, separated by commas. Errors name an entry by its position, never by its text. */
export function parseApiKeys(text: string): ApiKey[] {
  const keys = text.split(',').map((entry, i) => parseApiKey(entry.trim(), i + 1))
  checkApiKeys(keys)
  return keys
}

/** Parses a file of keys: the same entries, one per line or separated by commas; lines that begin with `#` are ignored. */
export function parseApiKeysFile(text: string): ApiKey[] {
  const entries = text.split('\n').flatMap((line) => (/^\s*(#|$)/.test(line) ? [] : line.trim().replace(/,$/, '')))
  if (entries.length === 0) throw new Error('Expected at least one key, got none')
  return parseApiKeys(entries.join(','))
}

/** Throws when a key occurs twice, or when the keys of one name have different weights. */
export function checkApiKeys(keys: readonly ApiKey[]): void {
  if (new Set(keys.map(({ hash }) => hash.toString('hex'))).size !== keys.length) throw new Error('Expected every key once, got one twice')
  for (const [owner, own] of Map.groupBy(keys, (key) => key.owner)) {
    const weights = [...new Set(own.map(({ weight }) => weight))]
    if (weights.length > 1) throw new Error(`Expected one weight for all keys of ${owner}, got ${weights.join(' and ')}`)
  }
}

function parseApiKey(entry: string, place: number): ApiKey {
  const colon = entry.indexOf(':')
  const key = entry.slice(colon + 1)
  if (!/^[\x21-\x7e]{8,256}$/.test(key)) {
    throw new Error(`Expected 8 to 256 visible ASCII characters as key ${place}, got ${key.length} characters`)
  }
  const hash = hashKey(key)
  const formerOwner = hash.toString('hex').slice(0, 16)
  if (colon < 0) return { hash, owner: formerOwner, formerOwner, weight: 1 }
  const [, name = '', weightText] = /^([\w.-]{1,64})(?:\*([0-9]{1,4}(?:\.[0-9]{1,3})?))?$/.exec(entry.slice(0, colon)) ?? []
  if (name === '') {
    throw new Error(`Expected a name of letters, digits, '.', '_' or '-' before the ':' of key ${place}, or such a name, '*' and a weight`)
  }
  // An owner with that name would see jobs made without keys, or with a key that has no name.
  if (name === publicOwner || /^[0-9a-f]{16}$/i.test(name)) {
    throw new Error(`Expected a name other than '${publicOwner}' and 16 hex digits before the ':' of key ${place}, got ${name}`)
  }
  const weight = weightText === undefined ? 1 : Number(weightText)
  if (weight <= 0 || weight > largestWeight)
    throw new Error(`Expected a weight above 0 up to ${largestWeight} for key ${place}, got ${weight}`)
  return { hash, owner: name, formerOwner, weight }
}

export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
