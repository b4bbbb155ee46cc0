/**
 * The metrics of this api process, for Prometheus. Each api has its own registry, so that two in one process do not mix. Knows neither HTTP
 * frameworks nor Redis: other code reports events here.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { collectDefaultMetrics, Counter, Histogram, Registry } from 'prom-client'
import type { OnEnd } from '@easel/job-store'

export interface ApiMetrics {
  readonly contentType: string
  /** The text that Prometheus reads. */
  render(): Promise<string>
  countRequest(labels: { method: string; route: string; status: number }, seconds: number): void
  countEnd: OnEnd
  countWebhookAttempt(result: 'delivered' | 'failed'): void
  countWebhookGivenUp(): void
}

/** A period in milliseconds during which the delay of the event loop is measured a few times. */
const firstLookMs = 50

const requestBuckets = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

export function createApiMetrics(): ApiMetrics {
  const registry = new Registry()
  const registers = [registry]
  const requests = new Counter({
    name: 'easel_http_requests_total',
    help: 'Requests answered.',
    labelNames: ['method', 'route', 'status'],
    registers,
  })
  const durations = new Histogram({
    name: 'easel_http_request_duration_seconds',
    help: 'Time until the headers of the answer.',
    labelNames: ['method', 'route'],
    buckets: requestBuckets,
    registers,
  })
  const ends = new Counter({
    name: 'easel_jobs_total',
    help: 'Jobs that this process ended; code is empty unless they failed.',
    labelNames: ['status', 'code'],
    registers,
  })
  const attempts = new Counter({
    name: 'easel_webhook_attempts_total',
    help: 'Attempts to deliver webhook messages.',
    labelNames: ['result'],
    registers,
  })
  const givenUp = new Counter({
    name: 'easel_webhooks_given_up_total',
    help: 'Webhook messages that were not delivered and are not tried again.',
    registers,
  })
  // If a series only appeared with its first event, there would be no rate for that event.
  for (const result of ['delivered', 'failed']) attempts.inc({ result }, 0)
  ends.inc({ status: 'canceled', code: '' }, 0)
  ends.inc({ status: 'failed', code: 'expired' }, 0)

  /** Measured for the process from the first scrape on, because its timer fires a hundred times a second. */
  let watching: Promise<void> | undefined
  const watchProcess = (): Promise<void> => {
    collectDefaultMetrics({ register: registry })
    return sleep(firstLookMs)
  }

  return {
    contentType: registry.contentType,
    async render() {
      await (watching ??= watchProcess())
      return await registry.metrics()
    },
    countRequest({ method, route, status }, seconds) {
      requests.inc({ method, route, status })
      durations.observe({ method, route }, seconds)
    },
    countEnd: (status, code) => ends.inc({ status, code: code ?? '' }),
    countWebhookAttempt: (result) => attempts.inc({ result }),
    countWebhookGivenUp: () => givenUp.inc(),
  }
}
