/** Whether a client already has what would be sent. */
import fresh from 'fresh'
import type { HonoRequest } from 'hono'

/**
 * Whether If-None-Match names the tag, compared weakly as RFC 9110 says for this header. Nothing else in the request counts, because `fetch`
 * adds `Cache-Control: no-cache` to a request that has its own tag.
 */
export function matchesEtag(request: HonoRequest, etag: string): boolean {
  return fresh({ 'if-none-match': request.header('If-None-Match') }, { etag })
}
