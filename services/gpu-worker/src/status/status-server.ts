/**
 * GET /livez, /readyz and /metrics on the worker's own port, for orchestrators and monitoring. Live: the process answers, from the moment it
 * starts. Ready: it can take jobs. Knows nothing else; runs in the worker's main process.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { listen } from '@easel/process'
import type { Registry } from 'prom-client'
import type { PullProgress } from '../ensure-model.ts'

export interface StatusServer {
  readonly port: number
  close(): Promise<void>
}

export interface LoadProgress {
  /** For how many milliseconds the engine has not been seen to work. */
  silentMs: number
  /** Why the last load failed; undefined if none has since the engine last had its model. */
  lastFailure?: string | undefined
}

export interface StatusServerOptions {
  /** The address to listen on; undefined for all addresses. */
  host: string | undefined
  /** 0: any free port. */
  port: number
  isReady: () => boolean
  /** The progress of pulling the model; undefined when no pull is under way. */
  pulling?: () => PullProgress | undefined
  /** The progress of the engine's loading its model; undefined while it has one. */
  loading?: () => LoadProgress | undefined
  metrics: Registry
}

/** Throws a `ConfigError` when it cannot listen there. */
export async function startStatusServer({
  host,
  port,
  isReady,
  pulling = () => undefined,
  loading = () => undefined,
  metrics,
}: StatusServerOptions): Promise<StatusServer> {
  const server = createServer((request, response) => {
    if (request.url === '/metrics') {
      metrics.metrics().then(
        (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(String(error)),
      )
      return
    }
    const ready = isReady()
    const [pull, load] = ready ? [] : [pulling(), loading()]
    const progress = {
      ...(pull !== undefined && { pulling: { done_bytes: pull.doneBytes, total_bytes: pull.totalBytes } }),
      ...(load && { loading: { silent_seconds: Math.round(load.silentMs / 1000), last_failure: load.lastFailure } }),
    }
    const found =
      request.url === '/livez'
        ? { status: 200, live: true }
        : request.url === '/readyz'
          ? { status: ready ? 200 : 503, ready, ...progress }
          : undefined
    const { status, ...body } = found ?? { status: 404 }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  const variables = { host: 'METRICS_HOST', port: 'METRICS_PORT' }
  return {
    port: await listen(server, { host, port, variables }),
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
