/** Whether a client already has what it would be sent. */
import fresh from 'fresh'
import type { HonoRequest } from 'hono'

/**
 * Whether If-None-Match names the tag; compared weakly, as RFC 9110 says for this header. Nothing else of the request counts: `fetch` adds
 * `Cache-Control: no-cache` to a request that asks with a tag of its own.
 */
export function matchesEtag(request: HonoRequest, etag: string): boolean {
  return fresh({ 'if-none-match': request.header('If-None-Match') }, { etag })
}
