/** Owns what tests put before or in place of an S3 server: a forwarder of bytes and a plain HTTP server, each until its test ends. */
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import type { S3Server } from './server-under-test.ts'

/**
 * A port that passes every byte on to the server. `onRequestBytes` sees the bytes and the count so far on that connection. `hold` stops
 * passing bytes on until the server ends the connection; `delayMs` passes them on that many milliseconds later.
 */
export async function startForwarder(
  server: S3Server,
  onRequestBytes: (chunk: Buffer, total: number) => 'pass' | 'hold' | { delayMs: number },
): Promise<string> {
  const { hostname, port } = new URL(server.endpoint)
  const sockets = new Set<Socket>()
  const forwarder = createTcpServer((downstream) => {
    const upstream = connect(Number(port), hostname)
    let total = 0
    downstream.on('data', (chunk) => {
      total += chunk.length
      const verdict = onRequestBytes(chunk, total)
      if (verdict === 'pass') upstream.write(chunk)
      else downstream.pause()
      if (typeof verdict === 'string') return
      setTimeout(() => {
        if (upstream.writable) upstream.write(chunk)
        downstream.resume()
      }, verdict.delayMs)
    })
    upstream.on('data', (chunk) => downstream.write(chunk))
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => other.destroy())
    }
  })
  return listen(forwarder, () => {
    for (const socket of sockets) socket.destroy()
  })
}

/** An HTTP server of the test's own, until the test ends. */
export async function startHttpServer(onRequest: RequestListener): Promise<string> {
  const server = createHttpServer(onRequest)
  return listen(server, () => server.closeAllConnections())
}

/** Listens on a free port until the test ends. */
async function listen(server: TcpServer, closeConnections: () => void): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    closeConnections()
    server.close()
    await once(server, 'close')
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
