/**
 * Owns how the page talks to the api: where it is, the key if one was given, and whether it can be talked to at all.
 *
 * Invariant: the key goes to this api only, and is forgotten with the tab unless it was to be kept. Runs in the browser.
 */
import { signal } from '@preact/signals'
import { Easel } from '@easel/client'
import type { Problem } from '@easel/contract'

const keyName = 'easel.key'
/** Milliseconds after which a question that is not answered counts as lost. */
const answerLimitMs = 20_000

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

/** What the page asks of the api. Nothing is asked again by itself: people are told at once, and the page's own readings are repeated anyway. */
export const easel = new Easel({ baseUrl: new URL('.', document.baseURI).href, fetch: ask, timeoutMs: answerLimitMs, retries: 0 })

/** `fetch` with the key, which notes how the api answered. */
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
  // Not the api's words: a proxy speaks for one that is away.
  return code === undefined && response.status >= 502 ? 'away' : 'ok'
}
