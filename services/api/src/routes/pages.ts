/**
 * The pages for people: the playground at / for a browser (other clients get the welcome in JSON), the api reference at /docs, and their files. All
 * of them are built from playground/ and need no key.
 *
 * Invariant: a page loads everything from this server, except pictures that are in an object store; its Content-Security-Policy enforces this.
 * If the built files are missing, a sentence is sent instead. Runs in the api.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { serveStatic } from '@hono/node-server/serve-static'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { accepts } from 'hono/accepts'
import { imageKey } from '@easel/contract'
import type { Storage } from '@easel/storage'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'

export interface PageRoutesOptions {
  /** The folder of the built pages. Default: playground/dist of this service. */
  folder?: string
}

export const builtPages = fileURLToPath(new URL('../../playground/dist', import.meta.url))
const notBuilt =
  '<!doctype html><html lang="en"><title>Easel</title><p>Easel runs, but its pages have not been built yet: <code>npm start</code> builds them. The api itself is at <code>/v1</code>, its description at <code>/openapi.json</code>.'

export function pageRoutes({ storage }: Pick<AppDeps, 'storage'>, { folder = builtPages }: PageRoutesOptions = {}): Api {
  const app: Api = new OpenAPIHono<AppEnv>()
  let pictures: string | undefined

  app.get('/', async (c, next) => {
    c.header('Vary', 'Accept', { append: true })
    const wanted = accepts(c, { header: 'Accept', supports: ['application/json', 'text/html'], default: 'application/json' })
    if (wanted !== 'text/html') return next()
    // The store's credentials may be unavailable for a while; the page then works except for its pictures.
    pictures ??= await imageOrigin(storage).catch(() => undefined)
    return await sendPage(c, join(folder, 'index.html'), toPolicy({ pictures: pictures ?? '' }))
  })
  app.get('/docs', async (c) => await sendPage(c, join(folder, 'docs.html'), toPolicy({ inlineStyles: true })))
  let files: MiddlewareHandler<AppEnv> | undefined
  app.get('/playground/*', async (c, next) => {
    // Created late, because it prints a warning if the folder is missing.
    if (files === undefined && !existsSync(folder)) return next()
    files ??= serveFiles(folder)
    return await files(c, next)
  })
  return app
}

/** The names of these files change with their content, so they may be cached for ever. */
function serveFiles(folder: string): MiddlewareHandler<AppEnv> {
  return serveStatic<AppEnv>({
    root: folder,
    precompressed: true,
    onFound: (_path, c) => {
      c.header('Cache-Control', 'public, max-age=31536000, immutable')
      c.header('X-Content-Type-Options', 'nosniff')
    },
  })
}

export async function sendPage(c: Context<AppEnv>, file: string, policy: string): Promise<Response> {
  const html = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return notBuilt
    throw error
  })
  c.header('Content-Security-Policy', policy)
  c.header('X-Content-Type-Options', 'nosniff')
  c.header('Referrer-Policy', 'no-referrer')
  c.header('Cache-Control', 'no-cache')
  return c.html(html)
}

/** `pictures`: another origin for pictures. `inlineStyles`: needed because Scalar writes style elements while it runs. */
export function toPolicy({ pictures = '', inlineStyles = false }: { pictures?: string; inlineStyles?: boolean } = {}): string {
  return [
    "default-src 'self'",
    `img-src ${["'self'", 'data:', 'blob:', pictures].join(' ').trim()}`,
    `style-src 'self'${inlineStyles ? " 'unsafe-inline'" : ''}`,
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join('; ')
}

/** The origin to which /images/ redirects; empty when it answers with the bytes itself. */
async function imageOrigin(storage: Storage): Promise<string> {
  const direct = await storage.url(imageKey('probe', 0), { expiresInSeconds: 1 })
  return direct === undefined ? '' : new URL(direct.url).origin
}
