/**
 * The URL at which this server is reached: PUBLIC_URL or, if that is not set, the origin that the present request used, which is
 * passed along with everything done for that request. Knows nothing about HTTP. Runs in the api.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ApiConfig } from './config.ts'

const called = new AsyncLocalStorage<string | undefined>()

/** Without a trailing slash. */
export function toPublicUrl({ publicUrl }: Pick<ApiConfig, 'publicUrl'>): string {
  return called.getStore() ?? publicUrl
}

/** The origin that the request used; undefined outside of requests, and if PUBLIC_URL is set. */
export function calledUrl(): string | undefined {
  return called.getStore()
}

/** Runs `act` as if for a request that used this origin; undefined means PUBLIC_URL or its default. */
export function calledBy<Result>(url: string | undefined, act: () => Result): Result {
  return called.run(url, act)
}

/** A path of this api for use in a header. PUBLIC_URL may have a path, which a proxy removes before the request gets here. */
export function toPublicPath(config: Pick<ApiConfig, 'publicUrl'>, path: string): string {
  return new URL(toPublicUrl(config)).pathname.replace(/\/$/, '') + path
}
