/**
 * Owns how a request reaches the service: address, key, time limit of each attempt, retries.
 *
 * Invariant: an attempt ends (the answer read, an error, the time over or the caller's signal) before the next begins, and leaves neither a timer
 * nor an open connection behind. Knows nothing about what is asked. Runs wherever there is `fetch`.
 */
import { ConnectionError, EaselError, toError } from './errors.ts'
import { retryDelayMs } from './retry-delay.ts'
import { sleep } from './sleep.ts'

/** What every call takes. */
export interface RequestOptions {
  /** Ends the call, pauses between attempts included; it rejects with the reason of the signal. Default: none. */
  signal?: AbortSignal | undefined
  /** Milliseconds in which one attempt must be answered; Infinity = no limit. Default: that of the client. */
  timeoutMs?: number | undefined
  /** How often a request that failed for a while (no connection, 429, 503) is sent again, 0 or more. Default: that of the client. */
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
  /** From the base URL; or a whole URL, which gets no API key. */
  path: string
  headers?: Record<string, string>
  body?: RequestBody
}

/** An answer that has begun and is a success. It must be closed. */
interface OpenAnswer {
  readonly response: Response
  /** Gives the rest of the answer the whole time limit again. */
  renew(): void
  /** What it means that reading the rest has failed. */
  toReadError(error: unknown): unknown
  /** Lets go of the timer, and of the connection if there is more to come. */
  close(): void
}

export interface RequestSender {
  /** Sends a request until it is answered and `read` has read the answer, or it is not worth it any more. */
  send<T>(request: EaselRequest, read: (response: Response) => Promise<T>, options: RequestOptions): Promise<T>
  /** Sends a request once. Throws for whatever is no success. */
  open(request: EaselRequest, options: RequestOptions): Promise<OpenAnswer>
  /** How often a call with these options tries again. */
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
    const why = isLate ? `nothing came for ${timeoutMs / 1000} s` : describeFailure(error)
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

/** A deadline that cannot be met now is nearer later. */
function isWorthRepeating({ code, retryable }: EaselError): boolean {
  return retryable && code !== 'deadline_unreachable'
}

/** Node says in the cause what browsers keep to themselves. */
function describeFailure(error: unknown): string {
  const { cause, message } = error as Error
  if (!(cause instanceof Error)) return message
  return cause.message === '' ? String((cause as { code?: unknown }).code) : cause.message
}
