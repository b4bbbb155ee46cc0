/**
 * Tracing with OpenTelemetry: spans are sent over OTLP/HTTP in batches. Registers itself as this process's tracing, so it is started once.
 *
 * A trace begins with a request or with a job, never with BullMQ's housekeeping, whose many traces would bury the others.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, ParentBasedSampler, SamplingDecision, TracerProvider } from '@opentelemetry/sdk-trace'
import type { Sampler } from '@opentelemetry/sdk-trace'
import { BullMQOtel } from 'bullmq-otel'
import type { Tracing } from './tracing.ts'

export interface TracingOptions {
  /** The base URL of an OTLP/HTTP receiver, such as http://localhost:4318. */
  endpoint: string
  /** The name of the service in the traces. */
  service: string
}

const kinds = { server: SpanKind.SERVER, client: SpanKind.CLIENT } as const
const sendTimeoutMs = 3000
const sendIntervalMs = 1000

const beginsTraces: Sampler = {
  shouldSample: (_context, _traceId, _name, kind) => ({
    decision: kind === SpanKind.INTERNAL ? SamplingDecision.NOT_RECORD : SamplingDecision.RECORD_AND_SAMPLED,
  }),
  toString: () => 'requests and jobs',
}

export function startTracing({ endpoint, service }: TracingOptions): Tracing {
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, '')}/v1/traces`, timeoutMillis: sendTimeoutMs })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': service }),
    sampler: new ParentBasedSampler({ root: beginsTraces }),
    spanProcessors: [new BatchSpanProcessor({ exporter, scheduledDelayMillis: sendIntervalMs })],
  })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  trace.setGlobalTracerProvider(provider)
  const tracer = trace.getTracer('easel')

  return {
    telemetry: new BullMQOtel({ tracerName: 'bullmq' }),

    async span(name, { kind, attributes = {}, headers }, work) {
      const parent = headers === undefined ? context.active() : propagation.extract(context.active(), headers)
      const options = { attributes, kind: kind === undefined ? SpanKind.INTERNAL : kinds[kind] }
      return await tracer.startActiveSpan(name, options, parent, async (span) => {
        try {
          return await work({ rename: (to) => void span.updateName(to), set: (more) => void span.setAttributes(more) })
        } catch (error) {
          span.recordException(error instanceof Error ? error : String(error))
          span.setStatus({ code: SpanStatusCode.ERROR })
          throw error
        } finally {
          span.end()
        }
      })
    },

    record(name, startedAt, endedAt) {
      tracer.startSpan(name, { startTime: startedAt }).end(endedAt)
    },

    async close() {
      await Promise.race([provider.shutdown().catch(() => {}), sleep(sendTimeoutMs, undefined, { ref: false })])
    },
  }
}
