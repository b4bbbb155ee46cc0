/** Pictures to send, and a web server to fetch them from. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import sharp from 'sharp'
import type { Sharp } from 'sharp'

export interface PictureServer {
  url: string
  /** The answer for each path; other paths get 404. */
  pages: Map<string, (response: ServerResponse) => void>
  close(): void
}

export async function startPictureServer(): Promise<PictureServer> {
  const pages: PictureServer['pages'] = new Map()
  const server = createServer((request, response) => {
    const page = pages.get(request.url ?? '')
    if (page === undefined) response.writeHead(404).end('not here')
    else page(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pages,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

export function paint(width: number, height: number, color = '#c03020'): Sharp {
  return sharp({ create: { width, height, channels: 3, background: color } })
}

/** A picture that no other test uses. */
export async function uniquePng(width = 64, height = 64): Promise<Buffer> {
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const
  return await sharp({ create: { width, height, channels: 3, background: '#888', noise } })
    .png()
    .toBuffer()
}
