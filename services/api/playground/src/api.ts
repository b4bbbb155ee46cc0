/**
 * Owns how the page talks to the api: paths relative to the page, the key if one was given, errors as what the api said.
 *
 * Invariant: the key goes to this api only and is forgotten with the tab. Runs in the browser.
 */
import { signal } from '@preact/signals'
import type { FieldError, Problem } from '@easel/contract'

const keyName = 'easel.key'

export const apiKey = signal(sessionStorage.getItem(keyName) ?? '')
/** Whether the last answer was that a key is missing or wrong. */
export const keyWanted = signal(false)

export function setApiKey(key: string): void {
  apiKey.value = key
  sessionStorage.setItem(keyName, key)
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

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  if (apiKey.value !== '') headers.set('Authorization', `Bearer ${apiKey.value}`)
  let response: Response
  try {
    response = await fetch(path, { ...init, headers })
  } catch (error) {
    if (init.signal?.aborted === true) throw error
    throw new ApiError(0, 'unreachable', 'The server does not answer.')
  }
  keyWanted.value = response.status === 401
  if (!response.ok) throw await toError(response)
  return response
}

export async function requestJson<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await request(path, init)).json()) as T
}

async function toError(response: Response): Promise<ApiError> {
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>
  const message = problem.detail ?? problem.title ?? `The server answered ${response.status}.`
  return new ApiError(response.status, problem.code ?? 'unknown', message, problem.errors)
}
