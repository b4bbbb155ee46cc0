/**
 * If PUBLIC_URL is not set, makes the URLs in an answer begin with the origin that the request used: its Host or, behind
 * trusted proxies, the host and protocol that they received. Knows nothing about routes. Runs in the api.
 */
import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-deps.ts'
import type { ApiConfig } from '../config.ts'
import { calledBy } from '../public-url.ts'
import { readForwarded } from './client-address.ts'

export function followRequestUrl({ isPublicUrlSet, trustedProxies }: Pick<ApiConfig, 'isPublicUrlSet' | 'trustedProxies'>) {
  return createMiddleware<AppEnv>(async function followRequestUrl(c, next) {
    if (isPublicUrlSet) return await next()
    // Caches already distinguish answers by Host, so only the forwarded headers have to be named.
    if (trustedProxies > 0) c.header('Vary', 'X-Forwarded-Host, X-Forwarded-Proto, Forwarded', { append: true })
    await calledBy(toOrigin(c, trustedProxies), next)
  })
}

/** Undefined when the request gives no host or an invalid one. */
function toOrigin(c: Context, trustedProxies: number): string | undefined {
  const forwarded = readForwarded(c, trustedProxies)
  const host = forwarded?.host ?? c.req.header('host')
  const protocol = forwarded?.proto?.toLowerCase() ?? 'http'
  if (host === undefined || !/^https?$/.test(protocol)) return undefined
  const url = URL.parse(`${protocol}://${host}`)
  return url !== null && url.href === `${url.origin}/` ? url.origin : undefined
}
