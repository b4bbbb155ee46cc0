/**
 * Takes webhook messages from BullMQ's queue `webhooks`, makes one attempt for each (`message-delivery.ts`), and lets BullMQ try again after
 * the delay in the retry table.
 *
 * Invariant: a message keeps its id over all attempts. Runs in the api, in any number of replicas.
 */
import { Worker } from 'bullmq'
import { webhookQueueName } from '@easel/contract'
import type { WebhookJobData } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { closeWorker } from '../close-worker.ts'
import { DeliveryFailed, MessageDelivery } from './message-delivery.ts'
import type { DeliveryNeeds, MessageDeliveryOptions } from './message-delivery.ts'
import { nextRetryDelay } from './retry-delay.ts'

/** Defaults: 64 places, 8 to one origin of an owner, 15,000 ms. */
export interface DeliveryOptions extends Partial<MessageDeliveryOptions> {
  /** A connection that waits for Redis (`use: 'worker'`). Its owner closes it. */
  connection: RedisConnection
}

export interface Delivery {
  /** Takes no more messages and gives those under way a few seconds; a message without an answer by then will be sent again. */
  close(): Promise<void>
}

/** How many messages are examined in addition to those being sent, so that examining never has to wait for a receiver. */
const looks = 16

/** How many milliseconds requests under way have to end at `close()`. */
const closeGraceMs = 3000

export function startDelivery(deps: DeliveryNeeds & Pick<AppDeps, 'outage'>, options: DeliveryOptions): Delivery {
  const { config, outage, tracing } = deps
  const { connection, places = 64, perOrigin = 8, timeoutMs = 15_000, lookup } = options
  const delays = config.webhookRetryDelaysSeconds
  const delivery = new MessageDelivery(deps, { places, perOrigin, timeoutMs, lookup })
  const worker = new Worker<WebhookJobData, string>(webhookQueueName, (message, token) => delivery.deliver(message, token), {
    connection,
    prefix: config.queuePrefix,
    concurrency: places + looks,
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
  worker.on('error', (error) => outage.report(error, 'webhook delivery'))
  worker.on('failed', (message, error) => {
    if (message !== undefined) void delivery.logFailure(message, error)
  })
  return {
    close: () => closeWorker(worker, { graceMs: closeGraceMs, stop: () => delivery.stop() }),
  }
}
