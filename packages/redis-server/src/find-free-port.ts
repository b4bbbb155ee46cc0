import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Ports are taken from here: below the range from which systems choose for outgoing connections and for listeners on port 0, so that neither takes
 * a port between the search and its use, or while a server starts again. Each process counts from a place of its own.
 */
const [firstPort, portCount] = [20_000, 12_768]
let next = process.pid * 64

/** A TCP port on 127.0.0.1 on which nothing listens at this moment. */
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = firstPort + (next++ % portCount)
    if (await isFree(port)) return port
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false
    throw error
  }
  server.close()
  await once(server, 'close')
  return true
}
