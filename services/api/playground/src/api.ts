/**
 * Owns how the page talks to the api: its address, the key if one was given, and whether it answers at all.
 *
 * Invariant: the key is sent to this api only, and is forgotten when the tab is closed unless the user asked to keep it. Runs in the browser.
 */
import { signal } from '@preact/signals'
import { Easel } from '@easel/client'
import type { Problem } from '@easel/contract'

const keyName = 'easel.key'
/** Milliseconds after which an unanswered request counts as lost. */
const answerLimitMs = 20_000

export const apiKey = signal(sessionStorage.getItem(keyName) ?? localStorage.getItem(keyName) ?? '')
/** Whether the last answer said that the key is missing or wrong. */
export const keyWanted = signal(false)
/** What the last answer showed. `ok`; `queue`: the api answers but its queue does not; `away`: the api does not answer. */
export const link = signal<'ok' | 'queue' | 'away'>('ok')

/** `keep`: the browser keeps the key; without it the key is forgotten when the tab is closed. */
export function setApiKey(key: string, keep: boolean): void {
  apiKey.value = key
  sessionStorage.setItem(keyName, key)
  if (keep) localStorage.setItem(keyName, key)
  else localStorage.removeItem(keyName)
}

/** The client of the page. It does not retry: users see a failure at once, and the page's own readings are repeated anyway. */
export const easel = new Easel({ baseUrl: new URL('.', document.baseURI).href, fetch: ask, timeoutMs: answerLimitMs, retries: 0 })

/** `fetch` with the key; it notes how the api answered. */
export async function ask(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const headers = new Headers(init?.headers)
  if (apiKey.value !== '') headers.set('Authorization', `Bearer ${apiKey.value}`)
  let response: Response
  try {
    response = await fetch(input, { ...init, headers })
  } catch (error) {
    link.value = 'away'
    throw error
  }
  keyWanted.value = response.status === 401
  link.value = response.ok ? 'ok' : await toLink(response)
  return response
}

async function toLink(response: Response): Promise<typeof link.value> {
  const { code } = (await response
    .clone()
    .json()
    .catch(() => ({}))) as Partial<Problem>
  if (code === 'queue_unavailable') return 'queue'
  // The answer is not the api's own: a proxy answers for an api that is away.
  return code === undefined && response.status >= 502 ? 'away' : 'ok'
}
