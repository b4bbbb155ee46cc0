/**
 * Puts job ids into BullMQ and removes them. Each model has a queue. Adding the same id twice does nothing, so a submit may be repeated.
 * Runs in the api.
 *
 * A job whose webhook wants to know about its end is added as a flow: the message is the parent, the generation job its child. Redis releases
 * the parent in the same script that ends or removes the child, whatever the end is, so that nothing can be lost between the two.
 */
import { FlowProducer, Queue } from 'bullmq'
import type { JobsOptions, Telemetry } from 'bullmq'
import { createKeys, generateQueueName, webhookMessageId, webhookQueueName } from '@easel/contract'
import type { WebhookJobData } from '@easel/contract'
import { webhookJobOptions } from './webhook-outbox.ts'
import type { RedisConnection } from './redis.ts'

export interface GenerateJobData {
  id: string
}

/** The options of every generation job. The record decides how often a job may run, not BullMQ's attempts. */
export const generateJobOptions: JobsOptions = {
  attempts: 10,
  backoff: { type: 'fixed', delay: 1000 },
  removeOnComplete: { age: 3600, count: 1000 },
  removeOnFail: { age: 3600, count: 1000 },
}

/** A snapshot of a model's queue. */
export interface QueueLook {
  /** The number of jobs that wait. */
  length: number
  /** The ids of the first ones in BullMQ's order; the oldest job is among them. */
  next: string[]
}

export interface JobQueues {
  /** The queue of a model, opened on first use. */
  of(modelId: string): Queue<GenerateJobData>
  add(modelId: string, id: string, options?: JobsOptions): Promise<void>
  /** Like `add`, together with the webhook message about the job's end. */
  addWithWebhook(modelId: string, id: string, options?: JobsOptions): Promise<void>
  /**
   * Returns those of the ids that BullMQ does not carry, because it never got them or has already given them up. One round trip.
   */
  findMissing(modelIds: readonly string[], ids: readonly string[]): Promise<string[]>
  /** The queues of these models, by model id. One round trip. */
  look(modelIds: readonly string[]): Promise<Map<string, QueueLook>>
  /** Whether it could be removed; false when a worker has it already. */
  remove(modelId: string, id: string): Promise<boolean>
  close(): Promise<void>
}

export interface JobQueuesOptions {
  redis: RedisConnection
  prefix: string
  /** Called on every connection error. */
  onError: (error: Error) => void
  /** Makes jobs carry the trace in which they were added. Default none. */
  telemetry?: Telemetry | undefined
}

// oxlint-disable-next-line max-lines-per-function -- a list of short methods over what they share.
export function createJobQueues({ redis, prefix, onError, telemetry }: JobQueuesOptions): JobQueues {
  const options = { connection: redis, prefix, skipVersionCheck: true, telemetry }
  const queues = new Map<string, Queue<GenerateJobData>>()
  const of = (modelId: string): Queue<GenerateJobData> => {
    const name = generateQueueName(modelId)
    let queue = queues.get(name)
    if (queue === undefined) {
      queue = new Queue<GenerateJobData>(name, { ...options, defaultJobOptions: generateJobOptions })
      queue.on('error', onError)
      queues.set(name, queue)
    }
    return queue
  }
  // Commands go through the shared connection; a flow is written by one transaction.
  let flows: FlowProducer | undefined
  const getFlows = (): FlowProducer => {
    flows ??= new FlowProducer(options).on('error', onError)
    return flows
  }
  const { waitingChannel } = createKeys(prefix)
  return {
    of,
    async addWithWebhook(modelId, id, options) {
      const data: WebhookJobData = { jobId: id, event: 'completed' }
      await getFlows().add({
        name: 'completed',
        queueName: webhookQueueName,
        data,
        opts: { ...webhookJobOptions, jobId: webhookMessageId(id, 'completed') },
        children: [
          {
            name: 'generate',
            queueName: generateQueueName(modelId),
            data: { id } satisfies GenerateJobData,
            // Without this option the message would wait forever when the generation job fails.
            opts: { ...generateJobOptions, ...options, jobId: id, ignoreDependencyOnFailure: true },
          },
        ],
      })
      await redis.publish(waitingChannel, modelId)
    },
    async findMissing(modelIds, ids) {
      const pipeline = redis.pipeline()
      for (const id of ids) for (const modelId of modelIds) pipeline.hmget(of(modelId).toKey(id), 'timestamp', 'finishedOn')
      const replies = ((await pipeline.exec()) ?? []).map(([error, reply]) => {
        if (error !== null) throw error
        return reply as [string | null, string | null]
      })
      return ids.filter((_, i) => {
        const ofId = replies.slice(i * modelIds.length, (i + 1) * modelIds.length)
        return !ofId.some(([addedAt, finishedAt]) => addedAt !== null && finishedAt === null)
      })
    },
    async look(modelIds) {
      const pipeline = redis.pipeline()
      for (const modelId of modelIds) {
        const [wait, prioritized] = [of(modelId).toKey('wait'), of(modelId).toKey('prioritized')]
        pipeline.llen(wait).zcard(prioritized).lrange(wait, -1, -1).zrange(prioritized, 0, '0')
      }
      const replies = ((await pipeline.exec()) ?? []).map(([error, reply]) => {
        if (error !== null) throw error
        return reply
      })
      const looks = modelIds.map((modelId, i): [string, QueueLook] => {
        const [wait, prioritized, next, nextPrioritized] = replies.slice(4 * i) as [number, number, string[], string[]]
        return [modelId, { length: wait + prioritized, next: [...next, ...nextPrioritized] }]
      })
      return new Map(looks)
    },
    async add(modelId, id, options) {
      await of(modelId).add('generate', { id }, { ...options, jobId: id })
      await redis.publish(waitingChannel, modelId)
    },
    async remove(modelId, id) {
      try {
        return (await of(modelId).remove(id)) === 1
      } catch {
        // A worker has locked it, and reads the record before it does anything.
        return false
      }
    },
    async close() {
      await Promise.all([...queues.values(), ...(flows === undefined ? [] : [flows])].map((queue) => queue.close()))
    },
  }
}
