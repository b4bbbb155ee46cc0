/**
 * Under which URL this server is reached: PUBLIC_URL, or where that is not set, what the request being answered called it, which goes along
 * with everything done for that request. Knows nothing about HTTP. Runs in the api.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ApiConfig } from './config.ts'

const called = new AsyncLocalStorage<string | undefined>()

/** Without a slash at the end. */
export function toPublicUrl({ publicUrl }: Pick<ApiConfig, 'publicUrl'>): string {
  return called.getStore() ?? publicUrl
}

/** What the request called this server; undefined outside of requests, and where PUBLIC_URL decides. */
export function calledUrl(): string | undefined {
  return called.getStore()
}

/** Runs `act` as for a request that called this server by that URL; undefined: PUBLIC_URL or its default. */
export function calledBy<Result>(url: string | undefined, act: () => Result): Result {
  return called.run(url, act)
}

/** A path of this api for a header: PUBLIC_URL may have a path of its own, which a proxy takes away before the request comes here. */
export function toPublicPath(config: Pick<ApiConfig, 'publicUrl'>, path: string): string {
  return new URL(toPublicUrl(config)).pathname.replace(/\/$/, '') + path
}
