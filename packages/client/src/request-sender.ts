/**
 * Owns how a request reaches the service: the address, the key, the time limit of each attempt, and the retries.
 *
 * Invariant: an attempt ends (by a complete answer, an error, its time limit or the caller's signal) before the next begins, and leaves neither a
 * timer nor an open connection. Knows nothing about the meaning of requests. Runs wherever there is `fetch`.
 */
import { ConnectionError, EaselError, toError } from './errors.ts'
import { retryDelayMs } from './retry-delay.ts'
import { sleep } from './sleep.ts'

/** The options of every call. */
export interface RequestOptions {
  /** Ends the call, even in a pause between attempts; the call then rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined
  /** How many milliseconds one attempt may take to be answered; Infinity = no limit. Default: the client's. */
  timeoutMs?: number | undefined
  /** How often a request is sent again after a temporary failure (no connection, 429, 503), 0 or more. Default: the client's. */
  retries?: number | undefined
}

export interface SenderOptions {
  /** Absolute, without a slash at its end. */
  baseUrl: string
  apiKey: string | undefined
  timeoutMs: number
  retries: number
  fetch: typeof fetch
}

export type RequestBody = NonNullable<RequestInit['body']>

export interface EaselRequest {
  /** Default: GET. */
  method?: string
  /** Relative to the base URL, or a whole URL, to which no API key is sent. */
  path: string
  headers?: Record<string, string>
  body?: RequestBody
}

/** The beginning of a successful answer. It must be closed. */
interface OpenAnswer {
  readonly response: Response
  /** Restarts the time limit for the rest of the answer. */
  renew(): void
  /** The error to throw when reading the rest has failed. */
  toReadError(error: unknown): unknown
  /** Releases the timer, and the connection if more is to come. */
  close(): void
}

export interface RequestSender {
  /** Sends a request until it is answered and `read` has read the answer, or until another attempt would not help. */
  send<T>(request: EaselRequest, read: (response: Response) => Promise<T>, options: RequestOptions): Promise<T>
  /** Sends a request once. Throws for every answer that is not a success. */
  open(request: EaselRequest, options: RequestOptions): Promise<OpenAnswer>
  /** How often a call with these options is retried. */
  retriesOf(options: RequestOptions): number
}

export function createRequestSender(client: SenderOptions): RequestSender {
  const sender: RequestSender = {
    async send(request, read, options) {
      for (let attempts = 1; ; attempts++) {
        try {
          return await attempt(request, read, options)
        } catch (error) {
          if (!(error instanceof EaselError)) throw error
          error.attempts = attempts
          if (!isWorthRepeating(error) || attempts > sender.retriesOf(options)) throw error
          await sleep(retryDelayMs(attempts, error.retryAfterSeconds), options.signal)
        }
      }
    },
    open: async (request, options) => await open(client, request, options),
    retriesOf: ({ retries = client.retries }) => retries,
  }
  async function attempt<T>(request: EaselRequest, read: (response: Response) => Promise<T>, options: RequestOptions): Promise<T> {
    const answer = await open(client, request, options)
    try {
      return await read(answer.response)
    } catch (error) {
      throw answer.toReadError(error)
    } finally {
      answer.close()
    }
  }
  return sender
}

async function open(
  { apiKey, baseUrl, fetch, timeoutMs: usualMs }: SenderOptions,
  { method = 'GET', path, headers: given, body }: EaselRequest,
  { signal, timeoutMs = usualMs }: RequestOptions,
): Promise<OpenAnswer> {
  signal?.throwIfAborted()
  const url = /^https?:/.test(path) ? path : `${baseUrl}/${path}`
  const headers = new Headers(given)
  if (apiKey !== undefined && url !== path) headers.set('Authorization', `Bearer ${apiKey}`)
  const ending = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  let isLate = false
  const renew = (): void => {
    clearTimeout(timer)
    if (timeoutMs === Infinity) return
    timer = setTimeout(() => {
      isLate = true
      ending.abort()
    }, timeoutMs)
  }
  const close = (): void => {
    clearTimeout(timer)
    ending.abort()
  }
  const toReadError = (error: unknown): unknown => {
    if (error instanceof EaselError) return error
    if (signal?.aborted === true) return signal.reason
    const { origin } = new URL(url)
    const why = isLate ? `nothing arrived for ${timeoutMs / 1000} s` : describeFailure(error)
    return new ConnectionError(`No answer from ${origin}: ${why}.`, { cause: error })
  }

  renew()
  try {
    const ends = signal === undefined ? ending.signal : AbortSignal.any([signal, ending.signal])
    const response = await fetch(url, { method, headers, signal: ends, body })
    if (!response.ok) throw await toError(response)
    return { response, renew, toReadError, close }
  } catch (error) {
    close()
    throw toReadError(error)
  }
}

/** A deadline that cannot be met now cannot be met later either. */
function isWorthRepeating({ code, retryable }: EaselError): boolean {
  return retryable && code !== 'deadline_unreachable'
}

/** Node gives the reason in the cause; browsers do not give any. */
function describeFailure(error: unknown): string {
  const { cause, message } = error as Error
  if (!(cause instanceof Error)) return message
  return cause.message === '' ? String((cause as { code?: unknown }).code) : cause.message
}
