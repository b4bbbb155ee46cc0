/**
 * Says whether a URL may be a webhook, from its text alone: a request can be refused before anything is queued. Names are not looked up
 * here, as the answer may be another one later; `post-message.ts` judges the address at the moment of connecting. Pure. Runs in the api.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Addresses of cloud machines' metadata and control services that lie in public ranges. */
export const deniedAddresses: readonly string[] = ['168.63.129.16']

/** Names that only mean something inside a machine or a private network. */
const privateSuffixes = ['localhost', 'local', 'internal', 'intranet', 'lan', 'home.arpa']

export interface UrlRules {
  /** Let http:// and private addresses pass. Credentials in a URL never pass: it is stored and listed. */
  allowInsecure: boolean
}

/** What was expected in place of the URL; undefined when it may be a webhook. */
export function judgeWebhookUrl(text: string, { allowInsecure }: UrlRules): string | undefined {
  const url = URL.parse(text)
  if (url === null) return 'an absolute URL'
  if (url.protocol !== 'https:' && !(allowInsecure && url.protocol === 'http:'))
    return allowInsecure ? 'an http:// or https:// URL' : 'an https:// URL'
  if (url.username !== '' || url.password !== '') return 'a URL without user name and password'
  if (!allowInsecure && !isPublicHost(url.hostname)) return 'a URL with a public host'
  return undefined
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
function isPublicAddress(address: string): boolean {
  return ipaddr.parse(address).range() === 'unicast' && !deniedAddresses.includes(address)
}
