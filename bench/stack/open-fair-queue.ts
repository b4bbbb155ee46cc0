/**
 * The same engine, jobs and queue under two ways to take jobs: the fair share as a worker takes them, and BullMQ's own loop with rows first come,
 * first served. Records, queue and engine processes are real; pictures are made and discarded.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'bullmq'
import type { Job } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import type { JobInput } from '@easel/contract'
import { generateQueueName } from '@easel/contract'
import { createJobLines, createJobStore, createRedis, JobQueues, toCostMs, toQueuePriority } from '@easel/job-store'
import type { GenerateJobData, JobStore, RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { startEngine } from '../../services/gpu-worker/src/engine/engine-supervisor.ts'
import { FairWorker } from '../../services/gpu-worker/src/queue/fair-worker.ts'
import { toEngineParams } from '../../services/gpu-worker/src/jobs/to-engine-params.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'

type TakingJobs = 'fair' | 'firstCome'
type Engine = Awaited<ReturnType<typeof startEngine>>

export interface TimedJob {
  owner: string
  input: JobInput
  /** After how many milliseconds of device time it is submitted. */
  arrivesAt: number
}

const places = 8

export async function openFairQueue(): Promise<FairQueue> {
  const server = await startRedis()
  const redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  return new FairQueue(server, redis, { fair: await Side.open('fair', redis), firstCome: await Side.open('firstCome', redis) })
}

export class FairQueue {
  readonly #server: RedisServer
  readonly #redis: RedisConnection
  readonly #sides: Readonly<Record<TakingJobs, Side>>

  constructor(server: RedisServer, redis: RedisConnection, sides: Readonly<Record<TakingJobs, Side>>) {
    this.#server = server
    this.#redis = redis
    this.#sides = sides
  }

  /** Queues the jobs, whose owners take turns, and runs them all. Returns the milliseconds until the last one has ended. */
  async run(how: TakingJobs, inputs: readonly JobInput[], owners: number): Promise<number> {
    const startedAt = performance.now()
    const submitted = await Promise.all(inputs.map((input, i) => this.#sides[how].submit(input, `owner${i % owners}`)))
    await Promise.all(submitted.map(({ ended }) => ended))
    return performance.now() - startedAt
  }

  /** The device time in milliseconds from the submission of a job to its end, while another owner's jobs fill every place and more wait. */
  async runBeside(attack: readonly JobInput[], input: JobInput): Promise<number> {
    const { fair } = this.#sides
    for (const one of attack) await fair.submit(one, 'greedy')
    while ((await fair.store.count('greedy', 'running')) < places) await sleep(20)
    const before = fair.deviceMs
    const { ended } = await fair.submit(input, 'modest')
    await ended
    return fair.deviceMs - before
  }

  /**
   * Runs jobs of many owners by the fair share until the device has worked for `untilMs`, and cancels the rest. Returns how long the device has
   * worked for each owner, and whether all of the owner's jobs have ended.
   */
  async serve(jobs: readonly TimedJob[], untilMs: number): Promise<Map<string, { deviceMs: number; isDone: boolean }>> {
    const { fair } = this.#sides
    const left = new Map([...Map.groupBy(jobs, ({ owner }) => owner)].map(([owner, own]) => [owner, own.length]))
    const submitted: string[] = []
    const before = new Map(fair.tookMs)
    const beganAt = fair.deviceMs
    const coming = jobs.toSorted((a, b) => a.arrivesAt - b.arrivesAt)
    const isOver = (): boolean => fair.deviceMs - beganAt >= untilMs || [...left.values()].every((count) => count === 0)
    while (!isOver()) {
      while (coming[0] !== undefined && coming[0].arrivesAt <= fair.deviceMs - beganAt) {
        const { owner, input } = coming.shift() as TimedJob
        const { id, ended } = await fair.submit(input, owner)
        submitted.push(id)
        void ended.then(() => left.set(owner, (left.get(owner) ?? 0) - 1))
      }
      await sleep(10)
    }
    const served = [...left].map(([owner, count]) => {
      return [owner, { deviceMs: (fair.tookMs.get(owner) ?? 0) - (before.get(owner) ?? 0), isDone: count === 0 }] as const
    })
    for (const id of submitted) await fair.store.requestCancel(id)
    return new Map(served)
  }

  async close(): Promise<void> {
    await Promise.all([this.#sides.fair.close(), this.#sides.firstCome.close()])
    this.#redis.disconnect()
    await this.#server.stop()
  }
}

/** One way to take jobs, with an engine and a queue of its own. */
class Side {
  /** The time for which the engine has worked, in milliseconds. */
  deviceMs = 0
  /** The device time of the jobs that have ended, by owner, in milliseconds. */
  readonly tookMs = new Map<string, number>()
  readonly store: JobStore
  readonly #how: TakingJobs
  readonly #engine: Engine
  readonly #queues: JobQueues
  readonly #worker: Worker<GenerateJobData, string>
  readonly #ends = new Map<string, () => void>()

  constructor(how: TakingJobs, redis: RedisConnection, engine: Engine) {
    const prefix = `{${how}}`
    this.#how = how
    this.#engine = engine
    this.store = createJobStore({ redis, prefix })
    this.#queues = new JobQueues({ redis, prefix, onError: () => {} })
    const lines = createJobLines({ redis, prefix })
    const process = (job: Job<GenerateJobData, string>, _token?: string, signal?: AbortSignal) => this.#process(job.data.id, signal)
    const [name, options] = [generateQueueName(modelName), { connection: redis, prefix, skipVersionCheck: true }]
    const fair = {
      places,
      choose: (running: ReadonlyMap<string, number>, taking: number) => lines.choose(modelName, { running, places, taking }),
      readOwner: async (id: string) => (await this.store.get(id))?.owner,
    }
    this.#worker =
      how === 'fair'
        ? new FairWorker(name, process, { ...options, ...fair })
        : new Worker<GenerateJobData, string>(name, process, { ...options, concurrency: places, autorun: false })
    this.#worker.on('error', () => {})
    void this.#worker.run()
  }

  static async open(how: TakingJobs, redis: RedisConnection): Promise<Side> {
    let side: Side | undefined
    const engine = await startEngine({
      model: modelName,
      modelsDir,
      device: 'cpu',
      stepTimeoutMs: 60_000,
      batchPolicy: how === 'fair' ? 'fair' : 'fcfs',
      onStep: ({ durationMs }) => {
        if (side !== undefined) side.deviceMs += durationMs
      },
    })
    side = new Side(how, redis, engine)
    return side
  }

  /** `ended` resolves when the job has ended. */
  async submit(input: JobInput, owner: string): Promise<{ id: string; ended: Promise<void> }> {
    const share = this.#how === 'fair' ? { costMs: toCostMs(input), weight: 1 } : {}
    const record = { id: uuidv7(), owner, createdAt: Date.now(), input, priority: 0, ...share }
    const ended = new Promise<void>((resolve) => void this.#ends.set(record.id, resolve))
    await this.store.create(record)
    await this.#queues.add(modelName, record.id, { priority: toQueuePriority(record) })
    if (this.#worker instanceof FairWorker) this.#worker.wake()
    return { id: record.id, ended }
  }

  async close(): Promise<void> {
    await this.#worker.close(true)
    await this.#engine.close()
    await this.#queues.close()
  }

  async #process(id: string, signal: AbortSignal | undefined): Promise<string> {
    const started = await this.store.start(id, 'bench')
    if (started.result !== 'running') return started.result
    const { input, owner, weight = 1 } = started.record
    const { timings } = await this.#engine.generate(id, toEngineParams(input), { owner: { name: owner, weight }, signal })
    await this.store.end(id, { status: 'succeeded', output: { images: [] }, gpuMs: timings.deviceMs })
    this.tookMs.set(owner, (this.tookMs.get(owner) ?? 0) + timings.deviceMs)
    this.#ends.get(id)?.()
    this.#ends.delete(id)
    return 'succeeded'
  }
}
