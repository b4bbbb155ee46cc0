/**
 * What the services know of tracing: an interface, and an implementation that does nothing. Loads no tracing library; `start-tracing.ts` does,
 * and is imported only where traces are wanted.
 */
import type { Telemetry } from 'bullmq'

type Attributes = Record<string, string | number>

export interface SpanOptions {
  /** `server` answers a request from outside, `client` makes one. Default: internal. */
  kind?: 'server' | 'client'
  attributes?: Attributes
  /** Headers of a request that may carry the trace it belongs to (W3C `traceparent`). */
  headers?: Readonly<Record<string, string | undefined>>
}

/** An open span. */
export interface OpenSpan {
  rename(name: string): void
  set(attributes: Attributes): void
}

export interface Tracing {
  /** For BullMQ's option of this name: carries the trace from the process that adds a job to the one that processes it. */
  readonly telemetry: Telemetry | undefined
  /** Does the work inside a span, which is a child of the current one. An error marks the span as failed. */
  span<T>(name: string, options: SpanOptions, work: (span: OpenSpan) => Promise<T>): Promise<T>
  /** Records a span that is already over, in ms since the epoch, as a child of the current one. */
  record(name: string, startedAt: number, endedAt: number): void
  /** Sends the spans that are left, within a few seconds at most. */
  close(): Promise<void>
}

const nothing: OpenSpan = { rename: () => {}, set: () => {} }

export const noTracing: Tracing = {
  telemetry: undefined,
  span: (_name, _options, work) => work(nothing),
  record: () => {},
  close: async () => {},
}
