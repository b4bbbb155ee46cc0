/** A port in front of a server, on which a test can break connections: at once, or after a command has been executed but before its reply. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface LossyConnection {
  /** `127.0.0.1:PORT` */
  readonly host: string
  /** Loses the next reply of the server. */
  loseNextReply(): void
  /** Breaks all present connections. */
  cut(): void
  /** The number of replies lost so far. */
  readonly lost: number
  close(): Promise<void>
}

export async function startLossyConnection(port: number): Promise<LossyConnection> {
  const sockets = new Set<Socket>()
  let losing = false
  let lost = 0
  const server = createServer((downstream) => {
    const upstream = connect(port, '127.0.0.1')
    downstream.on('data', (chunk) => upstream.write(chunk))
    upstream.on('data', (chunk) => {
      if (losing) {
        losing = false
        lost++
        downstream.destroy()
      } else downstream.write(chunk)
    })
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    loseNextReply() {
      losing = true
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    get lost() {
      return lost
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
