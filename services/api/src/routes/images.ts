/**
 * GET /images/{file}: a stored picture, or its thumbnail, by its stable name, streamed from the local folder or redirected to a freshly signed URL of the
 * object store. Needs no key: anyone who knows the name may see it. Uses only the store, so pictures load while Redis is away.
 */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError, jobIdCreatedAt, parseImageFileName } from '@easel/contract'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { isPastRetention } from '../past-retention.ts'
import { directUrlSeconds } from '../jobs/to-job.ts'
import { matchesEtag } from '../middleware/matches-etag.ts'
import { describeProblems } from '../middleware/problem.ts'

/** A redirect may be cached for less time than the URL it leads to works. */
const redirectSeconds = directUrlSeconds / 2

export function imageRoutes(deps: Pick<AppDeps, 'config' | 'now' | 'storage'>) {
  const { storage } = deps
  const app: Api = new OpenAPIHono<AppEnv>()
  const binary = { schema: z.string().meta({ format: 'binary' }) }
  const route = createRoute({
    method: 'get',
    path: '/images/{file}',
    summary: 'Fetch a picture or its thumbnail',
    security: [],
    request: {
      params: z.object({
        file: z.string().meta({ description: 'The last part of a `url` or `thumbnail_url`: job id, number and extension.' }),
      }),
    },
    responses: {
      200: { description: 'The picture.', content: { 'image/png': binary, 'image/jpeg': binary, 'image/webp': binary } },
      302: { description: 'With S3 storage: a URL at which the picture can be fetched for a while.' },
      304: { description: 'The client already has this picture.' },
      ...describeProblems('not_found', 'expired', 'storage_unavailable'),
    },
  })
  return app.openapi(route, async (c) => {
    const { file } = c.req.valid('param')
    const name = parseImageFileName(file)
    if (name === undefined) throw new ProblemError('not_found', 'Image not found')

    const { id, key } = name
    const found = await storage.stat(key)
    // The sweep removes pictures some time after their retention ends, but to clients they expire on time.
    if (isPastRetention(deps, found?.lastModified.getTime() ?? jobIdCreatedAt(id))) throw new ProblemError('expired')
    if (found === undefined) throw new ProblemError('not_found', 'Image not found')

    const direct = await storage.url(key, { expiresInSeconds: directUrlSeconds })
    if (direct !== undefined) {
      return c.body(null, 302, { Location: direct.url, 'Cache-Control': `private, max-age=${redirectSeconds}` })
    }

    // A name always stands for the same bytes, however often the job runs.
    const etag = `"${file}"`
    const headers = { ETag: etag, 'Cache-Control': 'public, max-age=31536000, immutable', 'X-Content-Type-Options': 'nosniff' }
    if (matchesEtag(c.req, etag)) return c.body(null, 304, headers)
    const described = { ...headers, 'Content-Type': found.contentType, 'Content-Length': String(found.size) }
    if (c.req.method === 'HEAD') return c.body(null, 200, described)
    const object = await storage.open(key)
    // It may have been deleted since it was looked up.
    if (object === undefined) throw new ProblemError('not_found', 'Image not found')
    return c.body(object.body, 200, described)
  })
}
