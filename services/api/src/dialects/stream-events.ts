/** A stream of server-sent events about one job, kept alive by comments. Knows nothing about what the events say. */
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { SSEStreamingApi } from 'hono/streaming'
import type { AppDeps, AppEnv } from '../app-deps.ts'

const heartbeatMs = 15_000

/** `jobId`: of the job that the stream is about. `write` is given a signal that aborts when the caller leaves or the server stops. */
export function streamEvents(
  deps: AppDeps,
  c: Context<AppEnv>,
  jobId: string,
  write: (stream: SSEStreamingApi, signal: AbortSignal) => Promise<void>,
): Response {
  // Nobody would read the stream, so nothing would end it.
  if (c.req.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream' })
  const leaving = new AbortController()
  c.header('X-Accel-Buffering', 'no')
  return streamSSE(c, async (stream) => {
    stream.onAbort(() => leaving.abort())
    const heartbeat = setInterval(() => void stream.write(': heartbeat\n\n'), heartbeatMs)
    try {
      await write(stream, AbortSignal.any([leaving.signal, c.req.raw.signal, deps.stopping]))
    } catch (error) {
      c.var.logger.warn({ err: error, jobId }, 'event stream broke off')
    } finally {
      clearInterval(heartbeat)
    }
  })
}
