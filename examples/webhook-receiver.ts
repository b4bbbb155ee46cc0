/**
 * Receives the webhook of a job and believes it only when its signature is right (Standard Webhooks). Easel must run with
 * WEBHOOK_ALLOW_INSECURE=true, because this machine is called by http://.
 */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { Webhook } from 'standardwebhooks'
import type { WebhookBody } from '@easel/contract'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'
const webhook = new Webhook(process.env['WEBHOOK_SECRET'] ?? (await askForSecret()))
const finished = Promise.withResolvers<WebhookBody>()

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
if (!submitted.ok) {
  console.error(`Expected a job, got ${submitted.status}: ${await submitted.text()}`)
  console.error('Easel calls http:// addresses and this machine only when it was started with WEBHOOK_ALLOW_INSECURE=true npm start')
  process.exit(1)
}

// Anyone can reach a receiver: a message with a wrong signature is refused.
const forged = await fetch(`http://127.0.0.1:${(receiver.address() as AddressInfo).port}/easel`, { method: 'POST', body: '{}' })
console.log(`forged message: ${forged.status}`)

const { data: job } = await finished.promise
console.log(job.output?.images[0]?.url ?? job.error?.message)
receiver.close()

/** The secret that Easel signs with; a receiver that is no trial has it in its configuration. */
async function askForSecret(): Promise<string> {
  const response = await fetch(`${url}/v1/webhooks/default/secret`)
  if (!response.ok) throw new Error(`Expected the signing secret, got ${response.status}: ${await response.text()}`)
  return ((await response.json()) as { key: string }).key
}

async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request)
  try {
    const message = webhook.verify(body, onlyStrings(request.headers)) as WebhookBody
    console.log(`${message.type}: ${message.data.status}`)
    // Answer first, work later: a slow answer counts as none and the message comes again.
    response.writeHead(204).end()
    if (message.type === 'job.completed') finished.resolve(message)
  } catch {
    response.writeHead(401).end()
  }
}

function onlyStrings(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
}
