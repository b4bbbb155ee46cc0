/**
 * A stream of server-sent events about one job: its headers, the comments that keep it alive, and its end when the client disconnects or the
 * grace of the server's shutdown is over. Knows nothing about the content of events. Runs in the api.
 */
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { SSEStreamingApi } from 'hono/streaming'
import type { AppDeps, AppEnv } from '../app-deps.ts'

/** Where events are written to. */
export interface EventSink {
  readonly stream: SSEStreamingApi
  /** Aborts when the client has disconnected. */
  readonly left: AbortSignal
  /** Aborts when nothing more should be written: the client has disconnected, or the grace of the server's shutdown is over. */
  readonly signal: AbortSignal
}

export interface SendEventsOptions {
  /** The job that the stream is about, for log lines. */
  jobId: string
  /** The time between comments that keep a silent connection alive, in milliseconds, 1 or more. Default 15000. */
  heartbeatMs?: number
}

/** `write` writes all events; the stream ends when it does. */
export function sendEvents(
  { graceOver }: Pick<AppDeps, 'graceOver'>,
  c: Context<AppEnv>,
  { jobId, heartbeatMs = 15_000 }: SendEventsOptions,
  write: (sink: EventSink) => Promise<void>,
): Response {
  // No client would read the stream, so nothing would ever end it.
  if (c.req.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
  const leaving = new AbortController()
  const left = AbortSignal.any([leaving.signal, c.req.raw.signal])
  c.header('X-Accel-Buffering', 'no')
  const response = streamSSE(c, async (stream) => {
    stream.onAbort(() => leaving.abort())
    const heartbeat = setInterval(() => void stream.write(': heartbeat\n\n'), heartbeatMs)
    try {
      await write({ stream, left, signal: AbortSignal.any([left, graceOver]) })
    } catch (error) {
      c.var.logger.warn({ err: error, jobId }, 'event stream was interrupted')
    } finally {
      clearInterval(heartbeat)
      leaving.abort()
    }
  })
  // Caching a stream of events is useless, and with API keys it must not happen. The library would set no-cache.
  response.headers.set('Cache-Control', 'no-store')
  // The server chooses the framing that the client's HTTP version supports; HTTP/1.0 has no chunked encoding.
  response.headers.delete('Transfer-Encoding')
  response.headers.delete('Connection')
  return response
}
