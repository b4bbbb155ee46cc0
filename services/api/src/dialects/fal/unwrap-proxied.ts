/**
 * fal's JavaScript client cannot take another base URL, but sends everything to a proxy when told so, with the URL it meant in
 * `x-fal-target-url`. Such a request is turned, before it is routed, into the one it stands for, on our own routes: middleware sees it once,
 * under its real path. Nothing is ever fetched from the URL. Pure.
 */

export const proxyPath = '/fal/proxy'

/** Hosts that the client means, and where their paths are here. */
const folders = new Map([
  ['queue.fal.run', '/fal/queue'],
  ['fal.run', '/fal/run'],
  ['rest.fal.ai', '/fal/rest'],
])

/** What the client sends, and a browser before it. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS'])

/** The same request when it is none to the proxy, or names a target that is not offered. */
export function unwrapProxied(request: Request): Request {
  const { url, method, headers } = request
  const { pathname, origin } = new URL(url)
  const target = pathname.replace(/\/$/, '') === proxyPath && methods.has(method) ? URL.parse(headers.get('x-fal-target-url') ?? '') : null
  const folder = target?.protocol === 'https:' ? folders.get(target.host) : undefined
  if (target === null || folder === undefined) return request
  const hasBody = method !== 'GET' && method !== 'HEAD'
  const path = target.pathname.replace(/\/$/, '')
  return new Request(`${origin}${folder}${path}${target.search}`, {
    method,
    headers,
    signal: request.signal,
    ...(hasBody && { body: request.body, duplex: 'half' }),
  })
}
