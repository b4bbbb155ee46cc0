/**
 * Defines what an object key is: the rule that both drivers apply before any I/O, and the content type that a key's extension stands for.
 *
 * Invariant: a key that passes names the same object on every driver and can never leave the store's folder or prefix. Names that begin
 * with a dot are reserved for the drivers (temporary files, probes, and the bookkeeping of some S3 servers).
 */
import { StorageError } from './storage-error.ts'

/** S3's limit for a key; with a prefix the server may refuse a shorter key. */
const maxKeyBytes = 1024
/** The limit of common file systems for a name, and so of S3 servers that keep objects as files. */
const maxSegmentBytes = 255

const contentTypes = new Map([
  ['png', 'image/png'],
  ['jpg', 'image/jpeg'],
  ['jpeg', 'image/jpeg'],
  ['webp', 'image/webp'],
  ['json', 'application/json'],
])

/** Throws `invalid_key` unless `key` is a relative path of plain names: `images/0198-0.png`. */
export function assertObjectKey(key: string): void {
  const problem = findProblem(key)
  if (problem === undefined) return
  throw new StorageError('invalid_key', `Expected key to be ${problem}, got ${JSON.stringify(key.slice(0, 100))}`)
}

/** Throws `invalid_key` unless some key could begin with `prefix`; the empty prefix is fine. */
export function assertKeyPrefix(prefix: string): void {
  assertObjectKey(`${prefix}x`)
}

/** Whether `list` may report the key: true for everything that `put` could have written. */
export function isObjectKey(key: string): boolean {
  return findProblem(key) === undefined
}

/** The content type of an object wherever it is stored: from the key's extension, or `application/octet-stream` if that is unknown. */
export function toContentType(key: string): string {
  const extension = /\.([^./]+)$/.exec(key)?.[1]?.toLowerCase() ?? ''
  return contentTypes.get(extension) ?? 'application/octet-stream'
}

/** A folder stores no content type, so a type that does not follow from the name would be lost there. */
export function assertContentType(key: string, contentType: string): void {
  const expected = toContentType(key)
  if (contentType !== expected) throw new TypeError(`Expected contentType to be ${expected} for key ${key}, got ${contentType}`)
}

function findProblem(key: string): string | undefined {
  if (key === '') return 'a relative path'
  if (key.startsWith('/')) return 'a relative path'
  if (!key.isWellFormed()) return 'well-formed Unicode'
  // oxlint-disable-next-line no-control-regex -- control characters are what this looks for
  if (/[\u0000-\u001f\u007f\\]/.test(key)) return 'free of backslashes and control characters'
  if (Buffer.byteLength(key) > maxKeyBytes) return `at most ${maxKeyBytes} bytes`
  for (const segment of key.split('/')) {
    if (segment === '') return 'free of empty segments'
    if (segment.startsWith('.')) return 'free of segments that begin with a dot'
    if (Buffer.byteLength(segment) > maxSegmentBytes) return `made of segments of at most ${maxSegmentBytes} bytes`
  }
  return undefined
}
