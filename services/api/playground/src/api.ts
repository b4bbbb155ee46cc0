/**
 * Owns how the page talks to the api: paths relative to the page, the key if one was given, errors as what the api said, and whether it
 * can be talked to at all.
 *
 * Invariant: the key goes to this api only, and is forgotten with the tab unless it was to be kept. Runs in the browser.
 */
import { signal } from '@preact/signals'
import type { FieldError, Problem } from '@easel/contract'

const keyName = 'easel.key'
/** Milliseconds after which a question that is not answered counts as lost. */
const answerLimitMs = 20_000
/** The same while a picture is sent, perhaps from a phone. */
const uploadLimitMs = 300_000

export const apiKey = signal(sessionStorage.getItem(keyName) ?? localStorage.getItem(keyName) ?? '')
/** Whether the last answer was that a key is missing or wrong. */
export const keyWanted = signal(false)
/** `ok`; `queue`: the api answers and its queue does not; `away`: the api does not answer. By the last answer. */
export const link = signal<'ok' | 'queue' | 'away'>('ok')

/** `keep`: for the browser; else until the tab is closed. */
export function setApiKey(key: string, keep: boolean): void {
  apiKey.value = key
  sessionStorage.setItem(keyName, key)
  if (keep) localStorage.setItem(keyName, key)
  else localStorage.removeItem(keyName)
}

/** An answer that is no success, or none at all (status 0). */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly code: string
  readonly errors: readonly FieldError[]

  constructor(status: number, code: string, message: string, errors: readonly FieldError[] = []) {
    super(message)
    this.status = status
    this.code = code
    this.errors = errors
  }
}

/** Throws an ApiError for whatever is no success. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  if (apiKey.value !== '') headers.set('Authorization', `Bearer ${apiKey.value}`)
  const given = new AbortController()
  const timer = setTimeout(() => given.abort(), init.body instanceof Blob ? uploadLimitMs : answerLimitMs)
  let response: Response
  try {
    response = await fetch(path, { ...init, headers, signal: given.signal })
  } catch {
    link.value = 'away'
    throw new ApiError(0, 'unreachable', 'The server does not answer.')
  } finally {
    clearTimeout(timer)
  }
  keyWanted.value = response.status === 401
  const error = response.ok ? undefined : await toError(response)
  link.value = toLink(error)
  if (error !== undefined) throw error
  return response
}

export async function requestJson<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await request(path, init)).json()) as T
}

function toLink(error: ApiError | undefined): typeof link.value {
  if (error?.code === 'queue_unavailable') return 'queue'
  // Not the api's words: a proxy speaks for one that is away.
  return error !== undefined && error.code === 'unknown' && error.status >= 502 ? 'away' : 'ok'
}

async function toError(response: Response): Promise<ApiError> {
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>
  const message = problem.detail ?? problem.title ?? `The server answered ${response.status}.`
  return new ApiError(response.status, problem.code ?? 'unknown', message, problem.errors)
}
