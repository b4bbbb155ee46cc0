/**
 * Puts job ids into BullMQ and removes them. Each model has a queue. Adding the same id twice does nothing, so a submit may be repeated.
 * Runs in the api.
 *
 * A job whose webhook asks for the end is added as a flow: the message is the parent, the generation job its child. Redis releases
 * the parent in the same script that ends or removes the child, whatever the end is, so that nothing can be lost between the two.
 */
import { FlowProducer, Queue } from 'bullmq'
import type { JobsOptions, QueueOptions, Telemetry } from 'bullmq'
import { createKeys, generateQueueName, webhookMessageId, webhookQueueName } from '@easel/contract'
import type { Keys, WebhookJobData } from '@easel/contract'
import { execPipeline } from './exec-pipeline.ts'
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

/** `owner`: the job's owner. Workers that have no place for that owner ignore the message. Default: all look for the job. */
export type AddOptions = JobsOptions & { owner?: string }

/** A snapshot of a model's queue. */
export interface QueueLook {
  /** The number of jobs that wait. */
  length: number
  /** The ids of the first ones in BullMQ's order; the oldest job is among them. */
  next: string[]
}

/**
 * KEYS[1] the line of the job's owner, [2] BullMQ's set of waiting jobs; ARGV[1] the job, [2] the channel, [3] the message. No message is needed
 * while an earlier job of the owner waits: either no worker has a place for this one, or a worker finds it when it takes the earlier one.
 */
const tellLua = `
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if first and first ~= ARGV[1] and redis.call('ZSCORE', KEYS[2], first) then return 0 end
return redis.call('PUBLISH', ARGV[2], ARGV[3])`

interface Scripts {
  easelTell: (...args: string[]) => Promise<unknown>
}

export interface JobQueuesOptions {
  redis: RedisConnection
  prefix: string
  /** Called on every connection error. */
  onError: (error: Error) => void
  /** Makes jobs carry the trace in which they were added. Default none. */
  telemetry?: Telemetry | undefined
}

export class JobQueues {
  readonly #redis: RedisConnection & Scripts
  readonly #onError: (error: Error) => void
  readonly #options: QueueOptions
  readonly #keys: Keys
  readonly #queues = new Map<string, Queue<GenerateJobData>>()
  /** Opened on first use. */
  #flows: FlowProducer | undefined

  constructor({ redis, prefix, onError, telemetry }: JobQueuesOptions) {
    redis.defineCommand('easelTell', { numberOfKeys: 2, lua: tellLua })
    this.#redis = redis as RedisConnection & Scripts
    this.#onError = onError
    this.#options = { connection: redis, prefix, skipVersionCheck: true, telemetry }
    this.#keys = createKeys(prefix)
  }

  /** The queue of a model, opened on first use. */
  of(modelId: string): Queue<GenerateJobData> {
    const name = generateQueueName(modelId)
    let queue = this.#queues.get(name)
    if (queue === undefined) {
      queue = new Queue<GenerateJobData>(name, { ...this.#options, defaultJobOptions: generateJobOptions })
      queue.on('error', this.#onError)
      this.#queues.set(name, queue)
    }
    return queue
  }

  async add(modelId: string, id: string, { owner, ...options }: AddOptions = {}): Promise<void> {
    await this.of(modelId).add('generate', { id }, { ...options, jobId: id })
    this.#tellWorkers(id, modelId, owner)
  }

  /** Like `add`, together with the webhook message about the job's end. */
  async addWithWebhook(modelId: string, id: string, { owner, ...options }: AddOptions = {}): Promise<void> {
    const data: WebhookJobData = { jobId: id, event: 'completed' }
    // One transaction writes all of a flow.
    this.#flows ??= new FlowProducer(this.#options).on('error', this.#onError)
    await this.#flows.add({
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
    this.#tellWorkers(id, modelId, owner)
  }

  /** Returns those of the ids that BullMQ does not carry, because it never got them or has already given them up. One round trip. */
  async findMissing(modelIds: readonly string[], ids: readonly string[]): Promise<string[]> {
    const pipeline = this.#redis.pipeline()
    for (const id of ids) for (const modelId of modelIds) pipeline.hmget(this.of(modelId).toKey(id), 'timestamp', 'finishedOn')
    const replies = await execPipeline<[string | null, string | null]>(pipeline)
    return ids.filter((_, i) => {
      const ofId = replies.slice(i * modelIds.length, (i + 1) * modelIds.length)
      return !ofId.some(([addedAt, finishedAt]) => addedAt !== null && finishedAt === null)
    })
  }

  /** The queues of these models, by model id. One round trip. */
  async look(modelIds: readonly string[]): Promise<Map<string, QueueLook>> {
    const pipeline = this.#redis.pipeline()
    for (const modelId of modelIds) {
      const [wait, prioritized] = [this.of(modelId).toKey('wait'), this.of(modelId).toKey('prioritized')]
      pipeline.llen(wait).zcard(prioritized).lrange(wait, -1, -1).zrange(prioritized, 0, '0')
    }
    const replies = await execPipeline(pipeline)
    const looks = modelIds.map((modelId, i): [string, QueueLook] => {
      const [wait, prioritized, next, nextPrioritized] = replies.slice(4 * i) as [number, number, string[], string[]]
      return [modelId, { length: wait + prioritized, next: [...next, ...nextPrioritized] }]
    })
    return new Map(looks)
  }

  /** Whether it could be removed; false when a worker has it already. */
  async remove(modelId: string, id: string): Promise<boolean> {
    try {
      return (await this.of(modelId).remove(id)) === 1
    } catch {
      // A worker has locked it, and reads the record before it does anything.
      return false
    }
  }

  /** The result is not awaited, because workers also look by themselves. */
  #tellWorkers(id: string, modelId: string, owner: string | undefined): void {
    const line = this.#keys.shareLine(modelId, owner ?? '')
    const prioritized = this.of(modelId).toKey('prioritized')
    const message = owner === undefined ? modelId : `${modelId}\n${owner}`
    this.#redis.easelTell(line, prioritized, id, this.#keys.waitingChannel, message).catch(this.#onError)
  }

  async close(): Promise<void> {
    const flows = this.#flows === undefined ? [] : [this.#flows]
    await Promise.all([...this.#queues.values(), ...flows].map((queue) => queue.close()))
  }
}
