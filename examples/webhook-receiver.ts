/**
 * Receives the webhook of a job and accepts it only if its signature is valid (Standard Webhooks). Easel must have the same secret
 * (WEBHOOK_SECRETS) and, because this machine is called by http://, run with WEBHOOK_ALLOW_INSECURE=true.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { Webhook } from 'standardwebhooks'
import type { WebhookBody } from '@easel/contract'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'
const secret = process.env['WEBHOOK_SECRET']
if (secret === undefined) throw new Error(`Expected the secret that Easel signs with in WEBHOOK_SECRET, got none. ${howToStart()}`)
const webhook = new Webhook(secret)
const received = new Map<string, WebhookBody>()
const finished = Promise.withResolvers<void>()

const receiver = createServer((request, response) => void receive(request, response))
await once(receiver.listen(Number(process.env['RECEIVER_PORT'] ?? 0), '127.0.0.1'), 'listening')

const submitted = await fetch(`${url}/v1/jobs`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({
    prompt: 'a yellow sun above a blue house',
    seed: 5,
    webhook: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/easel`,
    webhook_events_filter: ['started', 'completed'],
  }),
})
if (!submitted.ok) throw new Error(`Expected a job, got ${submitted.status}: ${await submitted.text()}. ${howToStart()}`)

// Anyone can reach a receiver: a message with a wrong signature is refused.
const forged = await fetch(`http://127.0.0.1:${(receiver.address() as AddressInfo).port}/easel`, { method: 'POST', body: '{}' })
console.log(`forged message: ${forged.status}`)

await finished.promise
const job = received.get('job.completed')?.data
console.log(job?.output?.images[0]?.url ?? job?.error?.message)
receiver.close()

/** Easel calls http:// addresses and this machine only if it is configured to, and both sides must have the same secret. */
function howToStart(): string {
  const shared = secret ?? `whsec_${randomBytes(24).toString('base64')}`
  return (
    `Start Easel with WEBHOOK_ALLOW_INSECURE=true WEBHOOK_SECRETS=${shared} npm start, ` +
    `then this with WEBHOOK_SECRET=${shared} npm run example webhook-receiver`
  )
}

async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request)
  try {
    const message = webhook.verify(body, onlyStrings(request.headers)) as WebhookBody
    console.log(`${message.type}: ${message.data.status}`)
    // Answer first and work later: a slow answer counts as none, and the message is sent again.
    response.writeHead(204).end()
    received.set(message.type, message)
    // The messages may arrive in any order, and each of them more than once.
    if (received.size === 2) finished.resolve()
  } catch {
    response.writeHead(401).end()
  }
}

function onlyStrings(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
}
