/**
 * Puts job ids into BullMQ, and takes them out again. One queue a model. Adding the same id twice does nothing, so that a submit may be
 * repeated. Runs in the api.
 */
import { Queue } from 'bullmq'
import type { JobsOptions } from 'bullmq'
import type { Redis } from 'ioredis'
import { generateQueueName } from '@easel/contract'

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

export interface JobQueues {
  /** The queue of a model, opened at first use. */
  of(modelId: string): Queue<GenerateJobData>
  add(modelId: string, id: string, options?: JobsOptions): Promise<void>
  /** Whether it was there to be removed; false when a worker has it already. */
  remove(modelId: string, id: string): Promise<boolean>
  close(): Promise<void>
}

export function createJobQueues({ redis, prefix, onError }: { redis: Redis; prefix: string; onError: (error: Error) => void }): JobQueues {
  const queues = new Map<string, Queue<GenerateJobData>>()
  const of = (modelId: string): Queue<GenerateJobData> => {
    const name = generateQueueName(modelId)
    let queue = queues.get(name)
    if (queue === undefined) {
      queue = new Queue<GenerateJobData>(name, { connection: redis, prefix, defaultJobOptions: generateJobOptions, skipVersionCheck: true })
      queue.on('error', onError)
      queues.set(name, queue)
    }
    return queue
  }
  return {
    of,
    async add(modelId, id, options) {
      await of(modelId).add('generate', { id }, { ...options, jobId: id })
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
      await Promise.all([...queues.values()].map((queue) => queue.close()))
    },
  }
}
