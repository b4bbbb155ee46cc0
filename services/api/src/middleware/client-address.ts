/**
 * Where a request came from, and by which name it addressed this server: from the connection, or from the proxies that the operator trusts
 * (`X-Forwarded-For`, `-Host`, `-Proto`, or RFC 7239's `Forwarded` if the first is missing). Each trusted proxy adds one entry at the end;
 * anything before those was written by the client and is not trusted. Runs in the api.
 */
import { SocketAddress, isIP } from 'node:net'
import { getConnInfo } from '@hono/node-server/conninfo'
import parseForwarded from 'forwarded-parse'
import type { Context } from 'hono'
import ipaddr from 'ipaddr.js'

/** All addresses that cannot be parsed count as one client. */
const unknownClient = 'unknown'

/** What the outermost trusted proxy reported; undefined when there is no trusted proxy or it reported nothing. */
interface Forwarded {
  for?: string | undefined
  host?: string | undefined
  proto?: string | undefined
}

/** What counts as one client: an IPv4 address, or the /64 network of an IPv6 address, which usually belongs to a single client. */
export function clientOf(c: Context, trustedProxies: number): string {
  const seen = readForwarded(c, trustedProxies)
  return toClient(seen?.for ?? getConnInfo(c).remote.address ?? unknownClient)
}

/** `text`: an address with or without a port, quotes, or brackets around IPv6. */
export function toClient(text: string): string {
  const bare = text.trim().replace(/^"(.*)"$/, '$1')
  const address = isIP(bare) === 0 ? SocketAddress.parse(bare)?.address : bare
  if (address === undefined || !ipaddr.isValid(address)) return unknownClient
  const parsed = ipaddr.process(address)
  return parsed.kind() === 'ipv4' ? parsed.toString() : `${Buffer.from(parsed.toByteArray().slice(0, 8)).toString('hex')}/64`
}

/** Reads what `trustedProxies` proxies reported; with 0 nothing is trusted. */
export function readForwarded(c: Context, trustedProxies: number): Forwarded | undefined {
  if (trustedProxies === 0) return undefined
  const header = c.req.header('forwarded')
  if (c.req.header('x-forwarded-for') === undefined && header !== undefined) return entryOf(parseForwardedHeader(header), trustedProxies)
  const entry = (name: string): string | undefined => entryOf(splitList(c.req.header(name)), trustedProxies)
  return { for: entry('x-forwarded-for'), host: entry('x-forwarded-host'), proto: entry('x-forwarded-proto') }
}

function splitList(header = ''): string[] {
  return header.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
}

/** The entry that the outermost trusted proxy added; if there are fewer entries than proxies, the first. */
function entryOf<T>(entries: readonly T[], trustedProxies: number): T | undefined {
  return entries.at(-Math.min(trustedProxies, entries.length))
}

function parseForwardedHeader(header: string): Forwarded[] {
  try {
    return parseForwarded(header)
  } catch {
    return [{ for: unknownClient }]
  }
}
