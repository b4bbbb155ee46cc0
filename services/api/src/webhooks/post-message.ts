/**
 * Makes one request to a receiver with `guardedRequest` and reports the outcome. Redirects are not followed, the whole exchange has one deadline,
 * and only a limited part of the answer is read. Knows nothing about jobs or retries. Runs in the api.
 */
import type { IncomingMessage } from 'node:http'
import type { LookupFunction } from 'node:net'
import { describeFailure, guardedRequest } from '../outbound/guarded-request.ts'
import { judgeUrl } from '../outbound/judge-url.ts'

/** How many bytes of an answer are read, so that receivers can finish sending; its content does not matter. */
const maxAnswerBytes = 64 * 1024

export interface PostOptions {
  url: string
  headers: Readonly<Record<string, string>>
  body: string
  /** Whether http:// and private addresses are allowed. */
  allowInsecure: boolean
  /** The time for everything from the lookup to the end of the answer, in milliseconds. */
  timeoutMs: number
  /** Aborts the request; `post` then rejects with its reason. */
  signal: AbortSignal
  /** Resolves names. Default: Node's. */
  lookup?: LookupFunction | undefined
}

export interface PostResult {
  /** The HTTP status; null when there was no answer. */
  status: number | null
  /** Header `Retry-After`. */
  retryAfter: string | undefined
  /** Why there was no answer. Never reveals addresses, so that a private network cannot be mapped with it. */
  error: string | null
}

export async function postMessage(options: PostOptions): Promise<PostResult> {
  const { allowInsecure, signal, timeoutMs } = options
  const { url, expected } = judgeUrl(options.url, { allowInsecure })
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

async function exchange({ url, headers, body, allowInsecure, lookup }: PostOptions, signal: AbortSignal): Promise<PostResult> {
  const bytes = Buffer.from(body)
  const described = { 'user-agent': 'Easel-Webhooks/1', 'content-type': 'application/json', 'content-length': bytes.length, ...headers }
  const options = { method: 'POST', headers: described, body: bytes, signal, allowInsecure, lookup }
  return await guardedRequest(url, options, async (answer) => {
    await drain(answer)
    return { status: answer.statusCode ?? null, retryAfter: answer.headers['retry-after'], error: null }
  })
}

/** Reads to the end or the limit. The status has arrived by then, so a body that is cut off changes nothing. */
async function drain(answer: IncomingMessage): Promise<void> {
  let read = 0
  try {
    for await (const chunk of answer) {
      read += (chunk as Buffer).length
      if (read > maxAnswerBytes) break
    }
  } catch {
    // The receiver or the deadline cut it off.
  } finally {
    answer.destroy()
  }
}
