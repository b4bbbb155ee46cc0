/**
 * The URL under which this server is reached: PUBLIC_URL or, where that is not set, the one by which the present request called it, which is
 * passed along with everything done for that request. Knows nothing about HTTP. Runs in the api.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ApiConfig } from './config.ts'

const called = new AsyncLocalStorage<string | undefined>()

/** Without a trailing slash. */
export function toPublicUrl({ publicUrl }: Pick<ApiConfig, 'publicUrl'>): string {
  return called.getStore() ?? publicUrl
}

/** The URL by which the request called this server; undefined outside of requests, and where PUBLIC_URL decides. */
export function calledUrl(): string | undefined {
  return called.getStore()
}

/** Runs `act` as if for a request that called this server by that URL; undefined means PUBLIC_URL or its default. */
export function calledBy<Result>(url: string | undefined, act: () => Result): Result {
  return called.run(url, act)
}

/** A path of this api for use in a header. PUBLIC_URL may have a path, which a proxy removes before the request gets here. */
export function toPublicPath(config: Pick<ApiConfig, 'publicUrl'>, path: string): string {
  return new URL(toPublicUrl(config)).pathname.replace(/\/$/, '') + path
}
