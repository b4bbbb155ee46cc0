/**
 * Makes one request to a receiver and says how it went. Redirects are not followed, the whole exchange has one deadline, and no more of the
 * answer is read than a limit.
 *
 * Invariant: unless insecure receivers are allowed, no byte is sent to an address that is not public. The address is judged after the name
 * was looked up and before the socket connects to that very address, so a name that changes its mind (DNS rebinding) gains nothing; no
 * connection is kept for a later request. Knows nothing about jobs or retries. Runs in the api.
 */
import { lookup as dnsLookup } from 'node:dns'
import { request as httpRequest, Agent as HttpAgent } from 'node:http'
import type { IncomingMessage, RequestOptions } from 'node:http'
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https'
import type { LookupFunction } from 'node:net'
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from 'request-filtering-agent'
import { isPublicAddress, judgeWebhookUrl } from './judge-webhook-url.ts'

/** Bytes of an answer that are read, so that well-behaved receivers see it taken; what it says is of no interest. */
const maxAnswerBytes = 64 * 1024

export interface PostOptions {
  url: string
  headers: Readonly<Record<string, string>>
  body: string
  /** Let http:// and private addresses pass. */
  allowInsecure: boolean
  /** Milliseconds for everything from the lookup to the end of the answer. */
  timeoutMs: number
  /** Ends the request; `post` then rejects with its reason. */
  signal: AbortSignal
  /** Looks up names. Default: Node's. */
  lookup?: LookupFunction
}

export interface PostResult {
  /** HTTP status; null when there was no answer. */
  status: number | null
  /** Header `Retry-After`. */
  retryAfter: string | undefined
  /** Why there was no answer. Never tells addresses, so that nobody maps a private network by it. */
  error: string | null
}

export async function postMessage(options: PostOptions): Promise<PostResult> {
  const { allowInsecure, signal, timeoutMs } = options
  const { url, expected } = judgeWebhookUrl(options.url, { allowInsecure })
  if (url === undefined) return { status: null, retryAfter: undefined, error: `expected ${expected}` }
  signal.throwIfAborted()
  const deadline = AbortSignal.timeout(timeoutMs)
  try {
    return await exchange({ ...options, url }, AbortSignal.any([deadline, signal]))
  } catch (error) {
    signal.throwIfAborted()
    return {
      status: null,
      retryAfter: undefined,
      error: deadline.aborted ? `no answer within ${timeoutMs / 1000} s` : describeFailure(error),
    }
  }
}

async function exchange({ url, headers, body, allowInsecure, lookup = dnsLookup }: PostOptions, signal: AbortSignal): Promise<PostResult> {
  const isHttps = url.startsWith('https:')
  const [Plain, Filtering] = isHttps ? [HttpsAgent, RequestFilteringHttpsAgent] : [HttpAgent, RequestFilteringHttpAgent]
  const agent = allowInsecure ? new Plain({ keepAlive: false }) : new Filtering({ keepAlive: false })
  const bytes = Buffer.from(body)
  const requestOptions: RequestOptions = {
    method: 'POST',
    agent,
    signal,
    headers: { 'user-agent': 'Easel-Webhooks/1', 'content-type': 'application/json', 'content-length': bytes.length, ...headers },
    lookup: allowInsecure ? lookup : lookupPublic(lookup),
  }
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (isHttps ? httpsRequest : httpRequest)(url, requestOptions, resolve)
      request.on('error', reject)
      request.end(bytes)
    })
    await drain(answer)
    return { status: answer.statusCode ?? null, retryAfter: answer.headers['retry-after'], error: null }
  } finally {
    agent.destroy()
  }
}

/** A lookup that fails when any address it found is not public: the rule for the text of a URL, and for what its name leads to, is one. */
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

/** Reads to the end or the limit. The status has come by then, so that a body that breaks off changes nothing. */
async function drain(answer: IncomingMessage): Promise<void> {
  let read = 0
  try {
    for await (const chunk of answer) {
      read += (chunk as Buffer).length
      if (read > maxAnswerBytes) break
    }
  } catch {
    // Cut off by the receiver or the deadline.
  } finally {
    answer.destroy()
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

function describeFailure(error: unknown): string {
  // What the filtering agent refuses is the only error here that carries no code.
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return 'address not allowed'
  return failures[error.code] ?? `connection failed: ${error.code}`
}
