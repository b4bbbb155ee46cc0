/**
 * Says whether a URL in a request may be called, from its text alone, so that a request can be refused before anything is queued. Names are not
 * resolved here, because the answer may change later; `guarded-request.ts` checks the address at the moment of connecting.
 * Pure. Runs in the api.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Ranges that look public but are not: the metadata service of a cloud provider, and IPv4 addresses inside IPv6 ones. */
export const deniedRanges: readonly string[] = ['168.63.129.16/32', '::/96']

/** Names that only mean something inside a machine or a private network. */
const privateSuffixes = ['localhost', 'local', 'internal', 'intranet', 'lan', 'home.arpa']

export interface UrlRules {
  /** Whether http:// and private addresses are allowed. Credentials in a URL never are, because the URL is stored and listed. */
  allowInsecure: boolean
}

/** The URL as it was checked, which is the only form that may be stored and called, or what was expected in its place. */
export type JudgedUrl = { url: string; expected?: undefined } | { url?: undefined; expected: string }

export function judgeUrl(text: string, { allowInsecure }: UrlRules): JudgedUrl {
  const url = URL.parse(text)
  if (url === null) return { expected: 'an absolute URL' }
  if (url.protocol !== 'https:' && !(allowInsecure && url.protocol === 'http:'))
    return { expected: allowInsecure ? 'an http:// or https:// URL' : 'an https:// URL' }
  if (url.username !== '' || url.password !== '') return { expected: 'a URL without user name and password' }
  if (!allowInsecure && !isPublicHost(url.hostname)) return { expected: 'a URL with a public host' }
  return { url: url.href }
}

/** `host` as `URL` normalises it: IPv4 in dotted decimals however it was written, IPv6 in brackets. */
function isPublicHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '')
  if (isIP(bare) !== 0) return isPublicAddress(bare)
  const name = bare.replace(/\.$/, '')
  // Names with a single label exist only in private networks, for example those of containers.
  if (!name.includes('.')) return false
  return !privateSuffixes.some((suffix) => name.endsWith(`.${suffix}`))
}

/** True for unicast addresses of the public internet, except those that wrap another address (IPv4-mapped, NAT64, 6to4, Teredo). */
export function isPublicAddress(address: string): boolean {
  const parsed = ipaddr.parse(address)
  const isDenied = deniedRanges.some((text) => {
    const [range, bits] = ipaddr.parseCIDR(text)
    return range.kind() === parsed.kind() && parsed.match(range, bits)
  })
  return parsed.range() === 'unicast' && !isDenied
}
