/**
 * fal's JavaScript client cannot be given another base URL, but can be told to send everything to a proxy, with the URL it means in
 * `x-fal-target-url`. Before routing, such a request is turned into the request it stands for, on our own routes, so that middleware sees it
 * once and under its real path. Nothing is ever fetched from the URL. Pure.
 */

export const proxyPath = '/fal/proxy'

/** The hosts that the client addresses, and the prefixes of their paths here. */
const folders = new Map([
  ['queue.fal.run', '/fal/queue'],
  ['fal.run', '/fal/run'],
  ['rest.fal.ai', '/fal/rest'],
])

/** The methods that the client uses, and the one that a browser sends first. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS'])

/** Returns the same request when it is not for the proxy or names an unknown target. */
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
