/** Parses `CORS_ORIGINS`. Imports nothing from the service, so that the configuration can use it. */

/**
 * Parses comma-separated origins into the form in which browsers send them: lower case, without a default port or a trailing slash. A single
 * `*` means every origin. Throws when an entry could never match what a browser sends.
 */
export function parseCorsOrigins(text: string): string[] {
  const entries = text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
  return [...new Set(entries.map(parseOrigin))]
}

function parseOrigin(entry: string): string {
  if (entry === '*') return entry
  const url = URL.parse(entry)
  const { protocol = '', hostname = '', origin = '' } = url ?? {}
  const isWhole = url !== null && url.href === `${origin}/` && (protocol === 'https:' || protocol === 'http:')
  if (!isWhole || hostname.includes('*')) {
    throw new Error(`Expected * or origins such as https://app.example.com, without a path and without patterns, got ${entry}`)
  }
  return origin
}
