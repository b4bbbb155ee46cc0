/**
 * A `fetch` for the hub that retries what may work later and turns refusals into sentences.
 *
 * Invariant: only successful answers are returned; everything else is a PullError. Knows the hub's status codes and headers, and nothing
 * about models.
 */
import { setGlobalProxyFromEnv } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { PullError } from './pull-error.ts'

export interface HubFetchOptions {
  /** What is fetched, for sentences: `owner/name`. */
  repository: string
  revision: string
  /** Base address of the hub. */
  hubUrl: string
  hasToken: boolean
  signal: AbortSignal
  /** Called before each further attempt. */
  onRetry: (reason: string, waitMs: number) => void
  /** The wait before the second attempt in milliseconds, which doubles for each further one. Default 500. */
  firstWaitMs?: number
}

const maxTries = 6
const maxWaitMs = 60_000
const retryableStatuses = new Set([408, 429, 500, 502, 503, 504])

/** Sends every `fetch` of this process through the proxy given by HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
export function useProxy(env: Readonly<Record<string, string | undefined>>): void {
  if (['https_proxy', 'http_proxy', 'HTTPS_PROXY', 'HTTP_PROXY'].some((variable) => env[variable])) setGlobalProxyFromEnv({ ...env })
}

export function createHubFetch(options: HubFetchOptions): typeof fetch {
  const { signal, onRetry, firstWaitMs = 500 } = options
  return async (input, init) => {
    const url = input instanceof Request ? input.url : String(input)
    for (let attempt = 1; ; attempt++) {
      let failure: { reason: string; waitMs: number | undefined }
      try {
        const signals = init?.signal ? [signal, init.signal] : [signal]
        const response = await fetch(input, { ...init, signal: AbortSignal.any(signals) })
        // The hub's own client expects this answer when a file does not exist.
        if (response.ok || response.headers.get('x-error-code') === 'EntryNotFound') return response
        if (!retryableStatuses.has(response.status)) {
          if (isOfHub(response, options)) throw new PullError(await toSentence(response, options))
          // An address in the hub's storage is valid for about an hour; asking again gives a fresh one.
          return response
        }
        await response.body?.cancel()
        failure = { reason: `it answers ${response.status}`, waitMs: readRetryAfter(response.headers.get('retry-after')) }
      } catch (error) {
        if (error instanceof PullError || signal.aborted || init?.signal?.aborted === true) throw error
        failure = { reason: toReason(error), waitMs: undefined }
      }
      const host = new URL(url).host
      if (attempt === maxTries)
        throw new PullError(
          `Could not reach ${host} in ${maxTries} tries (${failure.reason}): check the network, the proxy (HTTPS_PROXY) or HF_ENDPOINT.`,
        )
      const waitMs = Math.min(failure.waitMs ?? firstWaitMs * 2 ** (attempt - 1), maxWaitMs)
      onRetry(`${host}: ${failure.reason}`, waitMs)
      await sleep(waitMs, undefined, { signal })
    }
  }
}

function isOfHub(response: Response, { hubUrl }: HubFetchOptions): boolean {
  return new URL(response.url).origin === new URL(hubUrl).origin
}

/** In milliseconds; the header contains seconds or a date. */
function readRetryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  const seconds = Number(header)
  const waitMs = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now()
  return Number.isFinite(waitMs) ? Math.max(0, waitMs) : undefined
}

async function toSentence(response: Response, { repository, revision, hubUrl, hasToken }: HubFetchOptions): Promise<string> {
  const code = response.headers.get('x-error-code')
  const said = response.headers.get('x-error-message') ?? (await readError(response))
  const page = `${hubUrl}/${repository}`
  const logIn = 'log in with "hf auth login", or set HF_TOKEN to a token that may read it'
  if (code === 'GatedRepo' || /gated|restricted/i.test(said))
    return hasToken
      ? `${repository} is gated, and the account of your token has no access yet: accept the terms at ${page}, then try again.`
      : `${repository} is gated: accept the terms at ${page}, then ${logIn}.`
  if (code === 'RevisionNotFound') return `${repository} has no revision "${revision}": its page, ${page}, lists the existing ones.`
  if (code === 'RepoNotFound' || response.status === 404)
    return `There is no model ${repository} at ${hubUrl}, or it is private${hasToken ? ' and your token may not read it' : `: ${logIn}`}.`
  if (response.status === 401 || response.status === 403)
    return hasToken
      ? `${hubUrl} does not accept your token (${said || response.status}): ${logIn}.`
      : `${hubUrl} requires a login for ${repository}: ${logIn}.`
  return `${new URL(response.url || hubUrl).host} answers ${response.status} for ${repository}${said === '' ? '' : `: ${said}`}.`
}

async function readError(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: unknown }
    return typeof body.error === 'string' ? body.error : ''
  } catch {
    return ''
  }
}

/** fetch keeps the actual error in its cause. */
export function toReason(error: unknown): string {
  const root = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (!(root instanceof Error)) return String(root)
  const { code = '' } = root as NodeJS.ErrnoException
  return root.message === '' ? code || root.name : root.message
}
