/**
 * Sends webhook messages: takes them from BullMQ's queue `webhooks`, makes one attempt, records it, and lets BullMQ try again after the time in
 * the retry table.
 *
 * Invariant: a message keeps its id over all attempts; an attempt is in the job's list before the message counts as sent. A message may arrive
 * twice. It is either delivered or given up with a log line, even when the record it is about no longer exists. Runs in the api, in any number
 * of replicas.
 */
import { DelayedError, UnrecoverableError, Worker } from 'bullmq'
import type { Job as QueueJob } from 'bullmq'
import type { LookupFunction } from 'node:net'
import { isEnded, webhookQueueName } from '@easel/contract'
import type { KeptWebhookMessage, WebhookJobData } from '@easel/contract'
import { findRequestId } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { closeWorker } from '../close-worker.ts'
import { addAttempt, listAttempts } from './webhook-attempts.ts'
import { createPlaces } from './places.ts'
import { renderMessage } from './render-message.ts'
import type { RenderMessageNeeds } from './render-message.ts'
import { postMessage } from './post-message.ts'
import { nextRetryDelay, parseRetryAfter } from './retry-delay.ts'
import { createSecretReader } from './secret-reader.ts'
import type { SecretReaderNeeds } from './secret-reader.ts'
import { signMessage } from './sign-message.ts'

type DeliveryNeeds = RenderMessageNeeds & SecretReaderNeeds & Pick<AppDeps, 'metrics' | 'outage' | 'tracing'>

export interface DeliveryOptions {
  /** A connection that waits for Redis (`use: 'worker'`). Its owner closes it. */
  connection: RedisConnection
  /** How many messages this process sends at a time, 2 or more; a single owner gets half. Default 64. */
  places?: number
  /** How many of these may go to one origin of an owner. Default 8. */
  perOrigin?: number
  /** How many milliseconds a receiver has for the whole exchange. Default 15000. */
  timeoutMs?: number
  /** Resolves the names of receivers. Default: Node's. */
  lookup?: LookupFunction
}

export interface Delivery {
  /** Takes no more messages and gives those under way a few seconds; a message without an answer by then will be sent again. */
  close(): Promise<void>
}

/** How many messages are examined in addition to those being sent, so that this never has to wait for a receiver. */
const looks = 16

/** How many milliseconds requests under way have to end at `close()`. */
const closeGraceMs = 3000

/** After how many milliseconds a message about an end is tried again when the job has not ended yet. */
const notEndedRetryMs = 5000

/** An attempt failed and may be repeated. */
class DeliveryFailed extends Error {
  override readonly name = 'DeliveryFailed'
  readonly retryAfterMs: number | undefined

  constructor(message: string, retryAfterMs: number | undefined) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

// oxlint-disable-next-line max-lines-per-function -- the sequence of one delivery, and short functions that share what it needs.
export function startDelivery(deps: DeliveryNeeds, options: DeliveryOptions): Delivery {
  const { config, logger, metrics, now, redis, store, tracing } = deps
  const { connection, places: total = 64, perOrigin = 8, timeoutMs = 15_000, lookup } = options
  const delays = config.webhookRetryDelaysSeconds
  const places = createPlaces({ total, perOrigin })
  const closing = new AbortController()
  const readSecrets = createSecretReader(deps)

  /** The message's content and receiver, or why there is nothing to send. */
  async function readMessage({
    data: { jobId, event, kept },
  }: QueueJob<WebhookJobData>): Promise<KeptWebhookMessage | 'no end yet' | undefined> {
    const record = await store.get(jobId)
    if (record?.webhook === undefined) return kept
    // The job left its queue without having ended: housekeeping puts it back, and the message waits.
    if (event === 'completed' && !isEnded(record.status)) return 'no end yet'
    const { owner, requestId, webhook: url } = record
    const made = await renderMessage(deps, record, event)
    return made === undefined ? undefined : { ...made, owner, url, requestId }
  }

  async function deliver(message: QueueJob<WebhookJobData>, token: string | undefined): Promise<string> {
    const { jobId, event, redelivered = false } = message.data

    // 1. Is it due, is there a place, and is it still wanted? The place comes early, because most of thousands of messages may find none.
    const firstDelayMs = (delays[0] ?? 0) * 1000
    if (firstDelayMs > 0 && message.attemptsMade === 0 && !redelivered && message.attemptsStarted <= 1) {
      return await putOff(message, token, firstDelayMs)
    }
    const receiver = message.data.kept ?? (await store.getWebhook(jobId))
    if (receiver === undefined) return 'the job is no longer kept'
    const origin = URL.parse(receiver.url)?.origin ?? ''
    using place = places.take(receiver.owner, origin)
    if (place === undefined) return await putOff(message, token, places.busyDelay(receiver.owner, origin))
    const made = await readMessage(message)
    if (made === 'no end yet') return await putOff(message, token, notEndedRetryMs)
    if (made === undefined) return 'nothing to tell'
    const earlier = await listAttempts(redis, store.keys, jobId)
    if (earlier.some((attempt) => attempt.status === 410)) return 'the receiver wants no more'

    // 2. One attempt.
    const secrets = await readSecrets(made.owner)
    const at = now()
    const startedAt = performance.now()
    const request = {
      url: made.url,
      headers: { ...signMessage(secrets, { id: made.id, at, body: made.body }) },
      body: made.body,
      allowInsecure: config.webhookAllowInsecure,
      timeoutMs,
      signal: closing.signal,
      lookup,
    }
    const attributes = { 'server.address': origin, 'easel.job_id': jobId }
    const result = await tracing
      .span('POST webhook', { kind: 'client', attributes }, async (span) => {
        const answer = await postMessage(request)
        span.set({ 'http.response.status_code': answer.status ?? 0 })
        return answer
      })
      .catch(async (error: unknown) => {
        if (closing.signal.aborted) return await putOff(message, token, 0)
        throw error
      })

    // 3. The outcome.
    const { status } = result
    const ok = status !== null && status >= 200 && status < 300
    const error = ok ? null : (result.error ?? describeStatus(status))
    const durationMs = Math.round(performance.now() - startedAt)
    const attempt = { message_id: made.id, event, at: new Date(at).toISOString(), duration_ms: durationMs, status, ok, error }
    await addAttempt(redis, store.keys, jobId, attempt)
    metrics.countWebhookAttempt(ok ? 'delivered' : 'failed')
    await store.increment(ok ? 'webhook_attempts:ok' : 'webhook_attempts:failed')
    const line = { jobId, requestId: made.requestId, event, origin, status, durationMs, attempt: message.attemptsMade + 1 }
    if (ok) {
      logger.info(line, 'webhook delivered')
      return 'delivered'
    }
    logger.warn({ ...line, reason: error }, 'webhook not delivered')
    if (status === 410) throw new UnrecoverableError('the receiver answered 410')
    throw new DeliveryFailed(error ?? '', parseRetryAfter(result.retryAfter, now()))
  }

  // BullMQ has just recorded the failure, so Redis answers.
  async function logFailure({ data, attemptsMade, finishedOn }: QueueJob<WebhookJobData>, error: Error): Promise<void> {
    const { jobId, event } = data
    const requestId = data.kept?.requestId ?? (await findRequestId(store, jobId))
    const line = { jobId, requestId, event, attempts: attemptsMade }
    // A failed attempt has been logged already.
    const isTold = error instanceof DeliveryFailed || error instanceof UnrecoverableError
    if (!isTold) logger.error({ ...line, err: error }, 'webhook message could not be handled')
    if (finishedOn === undefined || event === 'progress') return
    metrics.countWebhookGivenUp()
    logger.error({ ...line, reason: error.message }, 'webhook given up')
  }

  const worker = new Worker<WebhookJobData, string>(webhookQueueName, deliver, {
    connection,
    prefix: config.queuePrefix,
    concurrency: total + looks,
    // A process that ends in the middle of an attempt is no reason to give up a message.
    maxStalledCount: 1000,
    skipVersionCheck: true,
    telemetry: tracing.telemetry,
    settings: {
      backoffStrategy: (attemptsMade, _type, error, message) => {
        // The next step's message replaces one about a step that was not delivered.
        if ((message?.data as WebhookJobData | undefined)?.event === 'progress') return -1
        const retryAfterMs = error instanceof DeliveryFailed ? error.retryAfterMs : undefined
        return nextRetryDelay({ delays, attemptsMade, retryAfterMs }) ?? -1
      },
    },
  })
  worker.on('error', (error) => deps.outage.report(error, 'webhook delivery'))
  worker.on('failed', (message, error) => {
    if (message !== undefined) void logFailure(message, error)
  })

  return {
    async close() {
      await closeWorker(worker, { graceMs: closeGraceMs, stop: () => closing.abort(new Error('the api stops')) })
    },
  }
}

/** Returns a message to the queue for a while; this does not count as an attempt. */
async function putOff(message: QueueJob<WebhookJobData>, token: string | undefined, delayMs: number): Promise<never> {
  await message.moveToDelayed(Date.now() + delayMs, token)
  throw new DelayedError()
}

function describeStatus(status: number | null): string {
  if (status !== null && status >= 300 && status < 400) return `status ${status}: redirects are not followed`
  return `status ${status}`
}
