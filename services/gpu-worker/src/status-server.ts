/**
 * GET /livez, /readyz and /metrics on a port of the worker's own, for whoever starts, stops and watches it. Live: the process answers,
 * from its first moment on. Ready: it can take jobs. Knows nothing else; runs in the worker's main process.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'

export interface StatusServer {
  readonly port: number
  close(): Promise<void>
}

/** `port` 0: a free one. */
export async function startStatusServer(port: number, isReady: () => boolean, metrics: Registry): Promise<StatusServer> {
  const server = createServer((request, response) => {
    if (request.url === '/metrics') {
      metrics.metrics().then(
        (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(String(error)),
      )
      return
    }
    const ready = isReady()
    const found =
      request.url === '/livez' ? { status: 200, live: true } : request.url === '/readyz' ? { status: ready ? 200 : 503, ready } : undefined
    const { status, ...body } = found ?? { status: 404 }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  server.listen(port)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
