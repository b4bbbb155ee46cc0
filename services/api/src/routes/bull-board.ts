/**
 * Bull Board at /admin/queues: the content of the queues, for operators who are logged in to /admin. It is read-only: the record of a job is the
 * truth, and housekeeping would undo any change made in the queues alone. The queues contain ids, no prompts. Runs in the api.
 */
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { HonoAdapter } from '@bull-board/hono'
import { serveStatic } from '@hono/node-server/serve-static'
import { Queue } from 'bullmq'
import { Hono } from 'hono'
import { maintenanceQueueName, webhookQueueName } from '@easel/contract'
import type { AppDeps, AppEnv } from '../app-deps.ts'

export type BullBoardNeeds = Pick<AppDeps, 'config' | 'logger' | 'queues' | 'redis' | 'registry' | 'stopping'>

/** The page loads nothing but from this server. Its framework writes style elements and attributes while it runs. */
const policy = [
  "default-src 'self'",
  "img-src 'self' data:",
  "style-src 'self' 'unsafe-inline'",
  "object-src 'none'",
  "base-uri 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ')

const boardPath = '/admin/queues'

export function bullBoardRoutes({ config, logger, queues, redis, registry, stopping }: BullBoardNeeds): Hono<AppEnv> {
  const connection = { connection: redis, prefix: config.queuePrefix, skipVersionCheck: true }
  const own = [webhookQueueName, maintenanceQueueName].map((name) => new Queue(name, connection))
  for (const queue of own) queue.on('error', (error) => logger.warn({ err: error }, 'redis connection'))
  stopping.addEventListener('abort', () => {
    for (const queue of own) queue.close().catch((error: unknown) => logger.warn({ err: error }, 'redis connection'))
  })

  const adapter = new HonoAdapter(serveStatic).setBasePath(boardPath)
  const toAdapter = (queue: Queue): BullMQAdapter => new BullMQAdapter(queue, { readOnlyMode: true })
  const board = createBullBoard({ queues: own.map(toAdapter), serverAdapter: adapter })

  const app = new Hono<AppEnv>()
  app.use(`${boardPath}/*`, async (c, next) => {
    c.header('Content-Security-Policy', policy)
    await next()
    if (c.res.headers.get('Content-Type')?.startsWith('text/html') !== true) return
    const html = (await c.res.text()).replaceAll(/<link [^>]*href="https?:[^>]*>/g, '')
    c.res = c.html(html)
  })
  // A model that has been announced since then has a queue to show.
  app.use(`${boardPath}/api/*`, async (_, next) => {
    const models = await registry.models()
    board.setQueues([...models.map(({ id }) => queues.of(id)), ...own].map(toAdapter))
    await next()
  })
  app.route(boardPath, adapter.registerPlugin() as unknown as Hono<AppEnv>)
  return app
}
