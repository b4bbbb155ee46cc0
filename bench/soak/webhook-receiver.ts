/** A receiver of webhooks that checks signatures, refuses one message in five at first, and remembers what the accepted messages said. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { Webhook } from 'standardwebhooks'
import { webhookBodySchema } from '@easel/contract'

export interface WebhookReceiver {
  readonly url: string
  /** For each job the status in each message about its end, one for every accepted delivery. */
  readonly completed: ReadonlyMap<string, readonly string[]>
  /** The number of messages whose signature or body was wrong. */
  readonly wrong: readonly string[]
  close(): Promise<void>
}

export async function startWebhookReceiver(secret: string): Promise<WebhookReceiver> {
  const webhook = new Webhook(secret)
  const completed = new Map<string, string[]>()
  const wrong: string[] = []
  let received = 0
  const server = createServer((request, response) => {
    const answer = async (): Promise<number> => {
      const text = Buffer.concat(await Array.fromAsync(request as AsyncIterable<Buffer>)).toString()
      const messageId = String(request.headers['webhook-id'])
      try {
        const body = webhookBodySchema.parse(webhook.verify(text, request.headers as Record<string, string>))
        if (++received % 5 === 0) return 500
        if (body.type === 'job.completed') {
          completed.set(body.data.id, [...(completed.get(body.data.id) ?? []), body.data.status])
        }
        return 204
      } catch (error) {
        wrong.push(`${messageId}: ${String(error)}`)
        return 400
      }
    }
    answer().then(
      (status) => response.writeHead(status).end(),
      () => response.destroy(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    completed,
    wrong,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
