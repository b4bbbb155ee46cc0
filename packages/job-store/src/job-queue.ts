/**
 * Puts job ids into BullMQ, and takes them out again. One queue a model. Adding the same id twice does nothing, so that a submit may be
 * repeated. Runs in the api.
 *
 * A job whose webhook wants to hear of the end goes in as a flow: the message is the parent, the generation job its child. Redis releases
 * the parent in the script that ends or removes the child, whatever the end is: nothing can fall between the two.
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

/** Options every generation job is added with. The record decides how often a job may run, not BullMQ's attempts. */
export const generateJobOptions: JobsOptions = {
  attempts: 10,
  backoff: { type: 'fixed', delay: 1000 },
  removeOnComplete: { age: 3600, count: 1000 },
  removeOnFail: { age: 3600, count: 1000 },
}

/** A look at the queue of a model. */
export interface QueueLook {
  /** Jobs that wait. */
  length: number
  /** Ids of the first in BullMQ's order; the oldest job is one of them. */
  next: string[]
}

export interface JobQueues {
  /** The queue of a model, opened at first use. */
  of(modelId: string): Queue<GenerateJobData>
  add(modelId: string, id: string, options?: JobsOptions): Promise<void>
  /** As `add`, together with the webhook message of the job's end. */
  addWithWebhook(modelId: string, id: string, options?: JobsOptions): Promise<void>
  /**
   * Of these ids, those that BullMQ does not carry: it has never heard of them or has already given them up. One round trip.
   */
  findMissing(modelIds: readonly string[], ids: readonly string[]): Promise<string[]>
  /** The queues of these models, by id of the model. One round trip. */
  look(modelIds: readonly string[]): Promise<Map<string, QueueLook>>
  /** Whether it was there to be removed; false when a worker has it already. */
  remove(modelId: string, id: string): Promise<boolean>
  close(): Promise<void>
}

export interface JobQueuesOptions {
  redis: RedisConnection
  prefix: string
  /** Told of every connection error. */
  onError: (error: Error) => void
  /** Makes jobs carry the trace they were added in. Default: none. */
  telemetry?: Telemetry | undefined
}

export function createJobQueues({ redis, prefix, onError, telemetry }: JobQueuesOptions): JobQueues {
  const options = { connection: redis, prefix, skipVersionCheck: true, ...(telemetry === undefined ? {} : { telemetry }) }
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
            // Without this option the message would wait for ever when the generation job fails.
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
        // Locked by a worker: it reads the record before it does anything.
        return false
      }
    },
    async close() {
      await Promise.all([...queues.values(), ...(flows === undefined ? [] : [flows])].map((queue) => queue.close()))
    },
  }
}
