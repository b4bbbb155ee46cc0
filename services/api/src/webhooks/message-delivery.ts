/**
 * One attempt to deliver a webhook message: whether it is due and has a place, the request, and what its outcome means.
 *
 * Invariant: an attempt is in the job's list before the message counts as sent. A message may arrive twice. It is either delivered or given up
 * with a log line, even when the record it is about no longer exists. Runs in the api.
 */
import { DelayedError, UnrecoverableError } from 'bullmq'
import type { Job as QueueJob } from 'bullmq'
import type { LookupFunction } from 'node:net'
import { isEnded } from '@easel/contract'
import type { KeptWebhookMessage, WebhookJobData } from '@easel/contract'
import { findRequestId } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { addAttempt, listAttempts } from './webhook-attempts.ts'
import { createPlaces } from '../places.ts'
import type { Places } from '../places.ts'
import { renderMessage } from './render-message.ts'
import type { RenderMessageNeeds } from './render-message.ts'
import { postMessage } from './post-message.ts'
import type { PostResult } from './post-message.ts'
import { parseRetryAfter } from './retry-delay.ts'
import { signMessage } from './sign-message.ts'

export type DeliveryNeeds = RenderMessageNeeds & Pick<AppDeps, 'logger' | 'metrics' | 'readSecrets' | 'redis' | 'store' | 'tracing'>

export interface MessageDeliveryOptions {
  /** How many messages are sent at a time, 2 or more. */
  places: number
  /** How many of these may go to one origin of an owner, 1 or more. */
  perOrigin: number
  /** How many milliseconds a receiver has for the whole exchange. */
  timeoutMs: number
  /** Resolves the names of receivers. Default: Node's. */
  lookup?: LookupFunction | undefined
}

type Message = QueueJob<WebhookJobData>

interface Attempt extends Pick<PostResult, 'status' | 'error' | 'retryAfter'> {
  /** When it began, ms since the epoch. */
  at: number
  durationMs: number
}

/** After how many milliseconds a message about an end is tried again when the job has not ended yet. */
const notEndedRetryMs = 5000

/** An attempt failed and may be repeated. */
export class DeliveryFailed extends Error {
  override readonly name = 'DeliveryFailed'
  /** The wait that the receiver asked for. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, retryAfterMs: number | undefined) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

export class MessageDelivery {
  readonly #deps: DeliveryNeeds
  readonly #options: MessageDeliveryOptions
  readonly #places: Places
  readonly #closing = new AbortController()

  constructor(deps: DeliveryNeeds, options: MessageDeliveryOptions) {
    this.#deps = deps
    this.#options = options
    this.#places = createPlaces({ total: options.places, perOrigin: options.perOrigin })
  }

  /** Interrupts the attempts under way; their messages return to the queue. */
  stop(): void {
    this.#closing.abort(new Error('the api stops'))
  }

  /** Resolves when the message needs no further attempt; rejects as BullMQ expects when it does. */
  async deliver(message: Message, token: string | undefined): Promise<string> {
    const { config, redis, store } = this.#deps
    const { jobId, redelivered = false, kept } = message.data

    // 1. Is it due, is there a place, and is it still wanted? The place is checked early, because with thousands of messages most may find none.
    const firstDelayMs = (config.webhookRetryDelaysSeconds[0] ?? 0) * 1000
    if (firstDelayMs > 0 && message.attemptsMade === 0 && !redelivered && message.attemptsStarted <= 1) {
      return await putOff(message, token, firstDelayMs)
    }
    const receiver = kept ?? (await store.getWebhook(jobId))
    if (receiver === undefined) {
      // A deleted job must leave nothing in the queue.
      message.opts.removeOnComplete = true
      return 'the job is no longer kept'
    }
    const origin = URL.parse(receiver.url)?.origin ?? ''
    using place = this.#places.take(receiver.owner, origin)
    if (place === undefined) return await putOff(message, token, this.#places.busyDelay(receiver.owner, origin))
    const made = await this.#read(message)
    if (made === 'no end yet') return await putOff(message, token, notEndedRetryMs)
    if (made === undefined) return 'nothing to send'
    const earlier = await listAttempts(redis, store.keys, jobId)
    if (earlier.some((attempt) => attempt.status === 410)) return 'the receiver has answered 410'

    // 2. One attempt
    const attempt = await this.#attempt(made, { 'server.address': origin, 'easel.job_id': jobId }).catch(async (error: unknown) => {
      if (this.#closing.signal.aborted) return await putOff(message, token, 0)
      throw error
    })

    // 3. The outcome
    return await this.#conclude(message, made, { ...attempt, origin })
  }

  // BullMQ has just recorded the failure, so Redis answers.
  async logFailure({ data, attemptsMade, finishedOn }: Message, error: Error): Promise<void> {
    const { logger, metrics, store } = this.#deps
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

  /** The message's content and receiver, or why there is nothing to send. */
  async #read({ data: { jobId, event, kept } }: Message): Promise<KeptWebhookMessage | 'no end yet' | undefined> {
    const record = await this.#deps.store.get(jobId)
    if (record?.webhook === undefined) return kept
    // The job left its queue without having ended: housekeeping puts it back, and the message waits.
    if (event === 'completed' && !isEnded(record.status)) return 'no end yet'
    const { owner, requestId, webhook: url } = record
    const made = await renderMessage(this.#deps, record, event)
    return made === undefined ? undefined : { ...made, owner, url, requestId }
  }

  async #attempt({ id, body, owner, url }: KeptWebhookMessage, attributes: Record<string, string>): Promise<Attempt> {
    const { config, now, tracing } = this.#deps
    const { timeoutMs, lookup } = this.#options
    const secrets = await this.#deps.readSecrets(owner)
    const at = now()
    const startedAt = performance.now()
    const headers = { ...signMessage(secrets, { id, at, body }) }
    const request = { url, headers, body, allowInsecure: config.webhookAllowInsecure, timeoutMs, signal: this.#closing.signal, lookup }
    const answer = await tracing.span('POST webhook', { kind: 'client', attributes }, async (span) => {
      const result = await postMessage(request)
      span.set({ 'http.response.status_code': result.status ?? 0 })
      return result
    })
    return { ...answer, at, durationMs: Math.round(performance.now() - startedAt) }
  }

  async #conclude(message: Message, { id, requestId }: KeptWebhookMessage, attempt: Attempt & { origin: string }): Promise<string> {
    const { logger, metrics, now, redis, store } = this.#deps
    const { jobId, event } = message.data
    const { origin, status, durationMs } = attempt
    const ok = status !== null && status >= 200 && status < 300
    const error = ok ? null : (attempt.error ?? describeStatus(status))
    const at = new Date(attempt.at).toISOString()
    await addAttempt(redis, store.keys, jobId, { message_id: id, event, at, duration_ms: durationMs, status, ok, error })
    metrics.countWebhookAttempt(ok ? 'delivered' : 'failed')
    await store.increment(ok ? 'webhook_attempts:ok' : 'webhook_attempts:failed')
    const line = { jobId, requestId, event, origin, status, durationMs, attempt: message.attemptsMade + 1 }
    if (ok) {
      logger.info(line, 'webhook delivered')
      return 'delivered'
    }
    logger.warn({ ...line, reason: error }, 'webhook not delivered')
    if (status === 410) throw new UnrecoverableError('the receiver answered 410')
    throw new DeliveryFailed(error ?? '', parseRetryAfter(attempt.retryAfter, now()))
  }
}

/** Returns a message to the queue for a while; this does not count as an attempt. */
async function putOff(message: Message, token: string | undefined, delayMs: number): Promise<never> {
  await message.moveToDelayed(Date.now() + delayMs, token)
  throw new DelayedError()
}

function describeStatus(status: number | null): string {
  if (status !== null && status >= 300 && status < 400) return `status ${status}: redirects are not followed`
  return `status ${status}`
}
