/**
 * What operators see under /admin, with ADMIN_KEY: the status page, its data, and Bull Board. All of it is read-only.
 *
 * Invariant: every path under /admin asks for the key, no answer is kept by a browser or a cache, and no page may be framed. Runs in the api.
 */
import { join } from 'node:path'
import { Hono } from 'hono'
import type { AppEnv } from '../app-deps.ts'
import { adminKey } from '../middleware/admin-key.ts'
import type { CountWrongKey } from '../middleware/wrong-keys.ts'
import { keepReading } from '../metrics/keep-reading.ts'
import { readStatus } from '../status/read-status.ts'
import type { StatusNeeds } from '../status/read-status.ts'
import { bullBoardRoutes } from './bull-board.ts'
import type { BullBoardNeeds } from './bull-board.ts'
import { builtPages, sendPage, toPolicy } from './pages.ts'

export function adminRoutes(deps: BullBoardNeeds & StatusNeeds, key: string, countWrongKey: CountWrongKey): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use('/admin/*', async (c, next) => {
    await next()
    c.header('Referrer-Policy', 'no-referrer')
    c.header('Cache-Control', 'no-store')
  })
  app.use('/admin/*', adminKey(key, countWrongKey))

  app.get('/admin', async (c) => {
    // The page names its files relative to its folder, so that it also works behind a proxy's path.
    if (new URL(c.req.url).pathname.endsWith('/')) return c.redirect('../admin', 308)
    return await sendPage(c, join(builtPages, 'admin.html'), toPolicy())
  })
  const read = keepReading(() => readStatus(deps), deps.now)
  app.get('/admin/status', async (c) => c.json(await read()))
  app.route('/', bullBoardRoutes(deps))
  return app
}
