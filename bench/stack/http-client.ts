/**
 * A client of the api on a few connections that stay open. It uses `node:http`, because everything shares the same cores here: the client's
 * own cost matters, and `fetch` costs several times as much.
 */
import { Agent, request } from 'node:http'

export interface HttpClient {
  /** POSTs wait for the end of the job (`Prefer: wait`). */
  send(method: 'GET' | 'POST', path: string, body?: string): Promise<{ status: number; body: string }>
  close(): void
}

export function openHttpClient(url: string): HttpClient {
  const agent = new Agent({ keepAlive: true })
  const send: HttpClient['send'] = (method, path, body) =>
    new Promise((resolve, reject) => {
      const headers =
        body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), Prefer: 'wait=60' }
      const sent = request(url + path, { method, agent, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => (text += part))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
        response.on('error', reject)
      })
      sent.on('error', (error: NodeJS.ErrnoException) => {
        // The server closed a connection that was idle while this process was busy with another slot, so the request has not been read.
        if (sent.reusedSocket && error.code === 'ECONNRESET') resolve(send(method, path, body))
        else reject(error)
      })
      sent.end(body)
    })
  return {
    send,
    close: () => agent.destroy(),
  }
}
