/** Simulates the owners, queue and workers of a fair share on a real Redis: records, BullMQ's queue and lines, without engine or api. */
import { Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import { generateQueueName } from '@easel/contract'
import { createJobLines } from '../src/job-lines.ts'
import type { ChooseOptions, JobLines } from '../src/job-lines.ts'
import { JobQueues } from '../src/job-queues.ts'
import type { NewJobRecord } from '../src/job-record.ts'
import { createJobStore } from '../src/create-job-store.ts'
import type { CreateOptions, CreateResult, JobStore } from '../src/job-store.ts'
import { toQueuePriority } from '../src/queue-priority.ts'
import { createRedis } from '../src/redis.ts'
import type { RedisConnection } from '../src/redis.ts'

export const benchModel = 'a/model'

export interface ShareBench {
  readonly redis: RedisConnection
  readonly store: JobStore
  readonly lines: JobLines
  readonly queues: JobQueues
  /** The clock in ms; it moves only when it is set. */
  now: number
  /** Writes a record, queues its id and returns the id. */
  submit(owner: string, job?: Partial<NewJobRecord>, options?: CreateOptions): Promise<string>
  create(record: NewJobRecord, options?: CreateOptions): Promise<CreateResult>
  newRecord(owner: string, job?: Partial<NewJobRecord>): NewJobRecord
  /** Chooses, takes the job from BullMQ and starts it, as a worker does; undefined when none may run. */
  take(options?: Partial<ChooseOptions>): Promise<{ id: string; owner: string; token: string } | undefined>
  /** Returns a taken job to BullMQ. */
  putBack(taken: { id: string; token: string }): Promise<void>
  /** Ends a taken job. */
  finish(id: string, gpuMs?: number): Promise<void>
  close(): Promise<void>
}

export function openShareBench(url: string, prefix: string): ShareBench {
  const redis = createRedis({ url, use: 'worker', onError: () => {} })
  const bench: Pick<ShareBench, 'now'> = { now: Date.now() }
  const store = createJobStore({ redis, prefix, now: () => bench.now })
  const lines = createJobLines({ redis, prefix })
  const queues = new JobQueues({ redis, prefix, onError: () => {} })
  const options = { connection: redis, prefix, autorun: false, skipVersionCheck: true }
  const worker = new Worker<{ id: string }>(generateQueueName(benchModel), null, options)
  worker.on('error', () => {})
  let tokens = 0
  const newRecord: ShareBench['newRecord'] = (owner, job = {}) => {
    const size = { width: 64, height: 64, num_inference_steps: 10, guidance_scale: 4, num_images_per_prompt: 1 }
    const input = { model: benchModel, prompt: 'p', negative_prompt: '', ...size, seed: 7, max_sequence_length: 20 }
    const record = { id: uuidv7(), owner, createdAt: bench.now, input: { ...input, output_format: 'png' as const }, priority: 0 }
    return { ...record, costMs: 100, weight: 1, ...job }
  }
  return Object.assign(bench, {
    redis,
    store,
    lines,
    queues,
    newRecord,
    create: (record: NewJobRecord, createOptions?: CreateOptions) => store.create(record, createOptions),
    async submit(owner: string, job: Partial<NewJobRecord> = {}, createOptions: CreateOptions = {}) {
      const record = newRecord(owner, job)
      const { result } = await store.create(record, createOptions)
      if (result !== 'created') throw new Error(`Expected a job, got ${result}`)
      await queues.add(benchModel, record.id, { priority: toQueuePriority(record) })
      return record.id
    },
    async take(chooseOptions: Partial<ChooseOptions> = {}) {
      const choice = await lines.choose(benchModel, { running: new Map(), places: 1000, ...chooseOptions })
      if (choice.result !== 'chosen' && choice.result !== 'unlisted') return undefined
      const token = `token-${tokens++}`
      const job = await worker.getNextJob(token, { block: false })
      if (job === undefined) return undefined
      const started = await store.start(job.data.id, 'w')
      if (started.result !== 'running') return undefined
      return { id: job.data.id, owner: started.record.owner, token }
    },
    async putBack({ id, token }: { id: string; token: string }) {
      const job = await queues.of(benchModel).getJob(id)
      await job?.moveToWait(token)
    },
    async finish(id: string, gpuMs?: number) {
      await store.end(id, { status: 'succeeded', output: { images: [] }, gpuMs })
      await redis.del(`${prefix}:${generateQueueName(benchModel)}:${id}:lock`)
      await queues.remove(benchModel, id)
    },
    async close() {
      await worker.close()
      await queues.close()
      redis.disconnect()
    },
  })
}
