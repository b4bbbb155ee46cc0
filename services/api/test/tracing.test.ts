/** Traces of the whole service, as a receiver of OTLP over HTTP gets them from the processes of api and worker. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { startService } from './start-service.ts'

const attributeSchema = z.object({ key: z.string(), value: z.object({ stringValue: z.string().optional() }) })
const spanSchema = z.object({ traceId: z.string(), spanId: z.string(), parentSpanId: z.string().optional(), name: z.string() })
const exportSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: z.array(attributeSchema) }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
})

type Span = z.infer<typeof spanSchema> & { service: string }

async function startReceiver() {
  const spans: Span[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      for (const { resource, scopeSpans } of exportSchema.parse(JSON.parse(text)).resourceSpans) {
        const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? ''
        spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service }))))
      }
      response.writeHead(request.url === '/v1/traces' ? 200 : 404, { 'content-type': 'application/json' }).end('{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

test('one trace, begun by the caller, leads from the request through queue, worker and upload to the webhook', async () => {
  const receiver = await startReceiver()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  const service = await startService(env)
  try {
    await service.startWorker(env)
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const body = { prompt: 'a red boat', num_inference_steps: 4, width: 64, height: 64, webhook: service.webhook() }
    const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` }
    expect((await service.post('/v1/jobs', body, { headers })).status).toBe(202)

    const named = (service: string): string[] =>
      receiver.spans.filter((span) => span.traceId === traceId && span.service === service).map(({ name }) => name)
    // Each service sends its spans in groups, in the order in which they end: an outer span may come later than those in it.
    for (const [service, names] of [
      ['easel-api', ['POST /v1/jobs', 'process webhooks', 'POST webhook']],
      ['easel-gpu-worker', ['process generate-tiny-scenes', 'generate', 'encode', 'denoise', 'decode', 'upload']],
    ] as const) {
      await expect.poll(() => named(service)).toEqual(expect.arrayContaining([...names]))
    }

    // Every span has a parent in the same trace, and the last parent is the caller's.
    const orphans = (): Span[] => {
      const spans = receiver.spans.filter((span) => span.traceId === traceId)
      const ids = new Set(['b7ad6b7169203331', ...spans.map(({ spanId }) => spanId)])
      return spans.filter(({ parentSpanId }) => !ids.has(parentSpanId ?? ''))
    }
    await expect.poll(orphans).toEqual([])
    // Queue housekeeping begins no trace.
    expect(receiver.spans.map(({ name }) => name).filter((name) => name.startsWith('getNextJob'))).toEqual([])
  } finally {
    await service.close()
    await receiver.close()
  }
})
