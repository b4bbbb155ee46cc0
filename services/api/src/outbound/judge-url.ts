/**
 * Says whether a URL that came with a request may be called, from its text alone: a request can be refused before anything is queued. Names
 * are not looked up here, as the answer may be another one later; `guarded-request.ts` judges the address at the moment of connecting.
 * Pure. Runs in the api.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Ranges that pass for public ones and are not: the control service of cloud machines, and IPv4 addresses inside of IPv6 ones. */
export const deniedRanges: readonly string[] = ['168.63.129.16/32', '::/96']

/** Names that only mean something inside a machine or a private network. */
const privateSuffixes = ['localhost', 'local', 'internal', 'intranet', 'lan', 'home.arpa']

export interface UrlRules {
  /** Let http:// and private addresses pass. Credentials in a URL never pass: it is stored and listed. */
  allowInsecure: boolean
}

/** The URL as it was judged, which alone may be stored and called, or what was expected in its place. */
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

/** `host` as `URL` writes it: IPv4 in dotted decimals whatever it was written as, IPv6 in brackets. */
function isPublicHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '')
  if (isIP(bare) !== 0) return isPublicAddress(bare)
  const name = bare.replace(/\.$/, '')
  // Single names are found in private networks only: those of containers, for example.
  if (!name.includes('.')) return false
  return !privateSuffixes.some((suffix) => name.endsWith(`.${suffix}`))
}

/** True for unicast addresses of the public internet; what only wraps another address (IPv4-mapped, NAT64, 6to4, Teredo) is none. */
export function isPublicAddress(address: string): boolean {
  const parsed = ipaddr.parse(address)
  const isDenied = deniedRanges.some((text) => {
    const [range, bits] = ipaddr.parseCIDR(text)
    return range.kind() === parsed.kind() && parsed.match(range, bits)
  })
  return parsed.range() === 'unicast' && !isDenied
}
