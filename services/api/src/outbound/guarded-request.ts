/**
 * Makes one request to a URL that came from outside, for webhooks and input pictures alike.
 *
 * Invariant: unless insecure targets are allowed, no byte is sent to an address that is not public. The address is checked after the name has
 * been resolved and before the socket connects to exactly that address, so DNS rebinding gains nothing. No connection
 * is kept for a later request, and redirects are not followed. `judgeUrl` checks the text of the URL beforehand. Runs in the api.
 */
import { lookup as dnsLookup } from 'node:dns'
import { request as httpRequest, Agent as HttpAgent } from 'node:http'
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https'
import type { LookupFunction } from 'node:net'
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from 'request-filtering-agent'
import { isPublicAddress } from './judge-url.ts'

export interface GuardedOptions {
  /** Default: GET. */
  method?: string
  headers: OutgoingHttpHeaders
  /** Default: none. */
  body?: Uint8Array
  signal: AbortSignal
  /** Whether private addresses are allowed. */
  allowInsecure: boolean
  /** Resolves names. Default: Node's. */
  lookup?: LookupFunction | undefined
}

/** `use` reads what it needs from the answer, and the connection then ends. Rejects with the signal's reason or an error for `describeFailure`. */
export async function guardedRequest<Result>(
  url: string,
  { method = 'GET', headers, body, signal, allowInsecure, lookup = dnsLookup }: GuardedOptions,
  use: (answer: IncomingMessage) => Promise<Result>,
): Promise<Result> {
  const isHttps = url.startsWith('https:')
  const [Plain, Filtering] = isHttps ? [HttpsAgent, RequestFilteringHttpsAgent] : [HttpAgent, RequestFilteringHttpAgent]
  const agent = allowInsecure ? new Plain({ keepAlive: false }) : new Filtering({ keepAlive: false })
  const options = { method, agent, signal, headers, lookup: allowInsecure ? lookup : lookupPublic(lookup) }
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (isHttps ? httpsRequest : httpRequest)(url, options, resolve)
      request.on('error', reject)
      // If the server switches protocols, the request closes without an answer and without an error.
      request.on('close', () => reject(Object.assign(new Error('closed without an answer'), { code: 'ECONNRESET' })))
      request.end(body)
    })
    return await use(answer)
  } finally {
    agent.destroy()
  }
}

/** A lookup that fails if any address that it finds is not public. The same rule is applied to an address in the text of a URL. */
function lookupPublic(lookup: LookupFunction): LookupFunction {
  return (name, options, done) => {
    lookup(name, options, (error, found, family) => {
      const addresses = typeof found === 'string' ? [found] : (found ?? []).map(({ address }) => address)
      const isAllowed = error !== null || addresses.every(isPublicAddress)
      if (isAllowed) done(error, found, family)
      else done(new Error('address not allowed'), [])
    })
  }
}

const failures: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection closed without an answer',
  ENOTFOUND: 'host not found',
  EAI_AGAIN: 'host could not be looked up',
  EHOSTUNREACH: 'host not reachable',
  ENETUNREACH: 'network not reachable',
  ETIMEDOUT: 'connection timed out',
}

/** Never reveals addresses, so that a private network cannot be mapped with it. */
export function describeFailure(error: unknown): string {
  // A refusal by the filtering agent is the only error here without a code.
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return 'address not allowed'
  return failures[error.code] ?? `connection failed: ${error.code}`
}
