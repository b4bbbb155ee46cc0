/**
 * The webhook messages that wait to be sent: jobs in BullMQ's queue `webhooks`, which the api delivers. The service that makes a transition adds
 * its message: the api `queued`, the worker `started` and `progress`. The message about the end is not added here. It is the parent of the
 * generation job in a BullMQ flow (`job-queues.ts`), so that Redis itself queues it in the step that ends the generation job.
 *
 * Invariant: for each job and event at most one message waits; adding it again does nothing. Knows nothing about HTTP or signatures. Runs in
 * the api and in the worker's main process.
 */
import { Queue } from 'bullmq'
import type { JobsOptions, Telemetry } from 'bullmq'
import { createKeys, parseWebhookMessageId, webhookEventNames, webhookMessageId, webhookQueueName } from '@easel/contract'
import type { KeptWebhookMessage, WebhookEventName, WebhookJobData } from '@easel/contract'
import type { NewJobRecord } from './job-record.ts'
import type { RedisConnection } from './redis.ts'
import { toPairs } from './to-pairs.ts'

/** The least time between two progress messages of a job, in milliseconds. */
const progressIntervalMs = 3000

/**
 * The options of every message. The delivering side, which knows the table of delays, decides how often and when it is tried again
 * (`backoff: custom`); BullMQ's own limit is set so high that it never applies. A sent message is remembered for an hour, so that it is not
 * added twice.
 */
export const webhookJobOptions: JobsOptions = {
  attempts: 1000,
  backoff: { type: 'custom' },
  removeOnComplete: { age: 3600, count: 10_000 },
  removeOnFail: { age: 3600, count: 10_000 },
}

/** A message that waits to be sent, without what it says. */
export interface WaitingMessage {
  jobId: string
  event: WebhookEventName
  /** Owner of the job and URL of the receiver; undefined when the record is gone. */
  owner: string | undefined
  url: string | undefined
  /** The number of attempts that failed. */
  attempts: number
  /** Why the last one failed. */
  reason: string | undefined
  /** Instant of the next attempt, ms; undefined: as soon as there is a place. */
  nextAttemptAt: number | undefined
}

const countedStates = ['waiting', 'prioritized', 'delayed', 'active', 'failed'] as const
/** BullMQ scores a delayed job with its instant in ms times this, plus a counter. */
const delayedScoreUnits = 4096

type WebhookWish = Pick<NewJobRecord, 'id' | 'webhook' | 'webhookEventsFilter'>

/** Whether the job's webhook wants the event. Without a filter it only wants the end. */
export function wantsWebhook(record: WebhookWish, event: WebhookEventName): boolean {
  return record.webhook !== undefined && (record.webhookEventsFilter ?? ['completed']).includes(event)
}

export interface WebhookOutbox {
  /**
   * Adds the message about an event, if the job's webhook wants it. `progress` may be called at every step: the message waits a few seconds,
   * stands for all steps meanwhile, and reports the step that is current when it is sent. `completed` is only for a job that has ended
   * without ever being in its queue.
   */
  add(record: WebhookWish, event: WebhookEventName): Promise<void>
  /** Sends a message again, or immediately when it waits for its next attempt; `not_due` when its event has not happened. */
  redeliver(jobId: string, event: WebhookEventName): Promise<'added' | 'not_due'>
  /** Whether the message about the job's end exists and no longer waits for the generation job; it must then not get another child. */
  isReleased(jobId: string): Promise<boolean>
  /** Those of the events whose message exists and has been neither delivered nor given up. */
  findUnsent(jobId: string, events: readonly WebhookEventName[]): Promise<WebhookEventName[]>
  /** Gives a message what it needs to be sent without its record. Does nothing when the message does not exist. */
  keep(jobId: string, event: WebhookEventName, kept: KeptWebhookMessage): Promise<void>
  /** The owner of the job, from its messages, including those sent within the last hour; undefined when none knows it. */
  findKeptOwner(jobId: string): Promise<string | undefined>
  /** Removes all messages of a job; one that is being sent at this moment will find nothing to send again. */
  remove(jobId: string): Promise<void>
  /** The number of messages that wait, are being sent, or wait for their next attempt. */
  count(): Promise<number>
  /** The same by state, and the number given up in the last hour. */
  counts(): Promise<{ waiting: number; sending: number; givenUp: number }>
  /** Messages that wait, at most so many: those whose next attempt comes first, then those that are due. */
  listWaiting(limit: number): Promise<WaitingMessage[]>
  close(): Promise<void>
}

export interface WebhookOutboxOptions {
  redis: RedisConnection
  prefix: string
  /** Called on every connection error. */
  onError: (error: Error) => void
  /** Makes messages carry the trace in which they were added. Default none. */
  telemetry?: Telemetry | undefined
}

export function createWebhookOutbox({ redis, prefix, onError, telemetry }: WebhookOutboxOptions): WebhookOutbox {
  const queue = new Queue<WebhookJobData>(webhookQueueName, {
    connection: redis,
    prefix,
    defaultJobOptions: webhookJobOptions,
    skipVersionCheck: true,
    telemetry,
  })
  queue.on('error', onError)
  const keys = createKeys(prefix)
  const readWaiting = async (messageId: string, nextAttemptAt: number | undefined): Promise<WaitingMessage[]> => {
    const parsed = parseWebhookMessageId(messageId)
    if (parsed === undefined) return []
    const [[attempts, reason], [owner, url]] = await Promise.all([
      redis.hmget(queue.toKey(messageId), 'atm', 'failedReason'),
      redis.hmget(keys.job(parsed.jobId), 'owner', 'webhook'),
    ])
    const told = { owner: owner ?? undefined, url: url ?? undefined, attempts: Number(attempts ?? 0), reason: reason ?? undefined }
    return [{ ...parsed, ...told, nextAttemptAt }]
  }
  return {
    async add(record, event) {
      if (!wantsWebhook(record, event)) return
      const options: JobsOptions = event === 'progress' ? { delay: progressIntervalMs, removeOnComplete: true, removeOnFail: true } : {}
      await queue.add(event, { jobId: record.id, event }, { ...options, jobId: webhookMessageId(record.id, event) })
    },

    async redeliver(jobId, event) {
      const id = webhookMessageId(jobId, event)
      const job = await queue.getJob(id)
      const state = await job?.getState()
      if (state === 'waiting-children') return 'not_due'
      if (state === 'completed' || state === 'failed') await job?.remove()
      if (state === 'delayed') await job?.updateData({ jobId, event, redelivered: true })
      // It may have begun by itself in the meantime, which is just as good.
      if (state === 'delayed') await job?.promote().catch(() => {})
      // This is ignored when the message waits or is being sent at this moment.
      else await queue.add(event, { jobId, event, redelivered: true }, { jobId: id })
      return 'added'
    },

    async isReleased(jobId) {
      const state = await queue.getJobState(webhookMessageId(jobId, 'completed'))
      return state !== 'unknown' && state !== 'waiting-children'
    },

    async findUnsent(jobId, events) {
      const states = await Promise.all(events.map((event) => queue.getJobState(webhookMessageId(jobId, event))))
      return events.filter((_, i) => !['unknown', 'completed', 'failed'].includes(states[i] ?? 'unknown'))
    },

    async keep(jobId, event, kept) {
      const message = await queue.getJob(webhookMessageId(jobId, event))
      // It may have been delivered and forgotten in the meantime.
      await message?.updateData({ ...message.data, kept }).catch(() => {})
    },

    async findKeptOwner(jobId) {
      const messages = await Promise.all(webhookEventNames.map((event) => queue.getJob(webhookMessageId(jobId, event))))
      return messages.find((message) => message?.data.kept !== undefined)?.data.kept?.owner
    },

    async remove(jobId) {
      // A message that is being sent is locked.
      for (const event of webhookEventNames) await queue.remove(webhookMessageId(jobId, event)).catch(() => 0)
    },

    async count() {
      return await queue.getJobCountByTypes('waiting', 'active', 'delayed', 'prioritized')
    },

    async counts() {
      const { waiting = 0, prioritized = 0, delayed = 0, active = 0, failed = 0 } = await queue.getJobCounts(...countedStates)
      return { waiting: waiting + prioritized + delayed, sending: active, givenUp: failed }
    },

    async listWaiting(limit) {
      const last = String(limit - 1)
      const [delayed, prioritized, waiting] = await Promise.all([
        redis.zrange(queue.toKey('delayed'), 0, last, 'WITHSCORES'),
        redis.zrange(queue.toKey('prioritized'), 0, last),
        // BullMQ takes from the end of this list.
        redis.lrange(queue.toKey('wait'), -limit, -1),
      ])
      const later = toPairs(delayed).map(([id, score]) => ({ id, at: Math.floor(Number(score) / delayedScoreUnits) }))
      const due = [...waiting.reverse(), ...prioritized].map((id) => ({ id, at: undefined }))
      return (await Promise.all([...later, ...due].slice(0, limit).map(({ id, at }) => readWaiting(id, at)))).flat()
    },

    async close() {
      await queue.close()
    },
  }
}
