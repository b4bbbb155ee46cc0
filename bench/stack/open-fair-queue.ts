/**
 * The same engine, jobs and queue under two ways to take jobs: the fair share as a worker takes them, and BullMQ's own loop with rows first come,
 * first served. Records, queue and engine processes are real; pictures are made and dropped.
 */
import { Worker } from 'bullmq'
import { v7 as uuidv7 } from 'uuid'
import type { JobInput } from '@easel/contract'
import { generateQueueName } from '@easel/contract'
import { createJobLines, JobQueues, createJobStore, createRedis, toCostMs, toQueuePriority } from '@easel/job-store'
import type { GenerateJobData } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { startEngine } from '../../services/gpu-worker/src/engine/engine-supervisor.ts'
import { FairWorker } from '../../services/gpu-worker/src/fair-worker.ts'
import { toEngineParams } from '../../services/gpu-worker/src/to-engine-params.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'

type TakingJobs = 'fair' | 'firstCome'

export interface FairQueue {
  /** Queues the jobs, whose owners take turns, and runs them all. Returns the milliseconds until the last one has ended. */
  run(how: TakingJobs, inputs: readonly JobInput[], owners: number): Promise<number>
  /** The device time in milliseconds from the submission of a job to its end, while another owner's jobs fill every place and more wait. */
  runBeside(attack: readonly JobInput[], input: JobInput): Promise<number>
  /**
   * Runs jobs of many owners by the fair share until the device has worked for `untilMs`, and cancels the rest. Returns how long the device has
   * worked for each owner, and whether all of the owner's jobs have ended.
   */
  serve(jobs: readonly TimedJob[], untilMs: number): Promise<Map<string, { deviceMs: number; isDone: boolean }>>
  close(): Promise<void>
}

export interface TimedJob {
  owner: string
  input: JobInput
  /** After how many milliseconds of device time it is submitted. */
  arrivesAt: number
}

const places = 8

// oxlint-disable-next-line max-lines-per-function -- a list of short methods over what they share.
export async function openFairQueue(): Promise<FairQueue> {
  const server = await startRedis()
  const redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  let deviceMs = 0
  const open = async (how: TakingJobs) => {
    const prefix = `{${how}}`
    const engine = await startEngine({
      model: modelName,
      modelsDir,
      device: 'cpu',
      stepTimeoutMs: 60_000,
      batchPolicy: how === 'fair' ? 'fair' : 'fcfs',
      onStep: ({ durationMs }) => {
        deviceMs += durationMs
      },
    })
    const store = createJobStore({ redis, prefix })
    const queues = new JobQueues({ redis, prefix, onError: () => {} })
    const lines = createJobLines({ redis, prefix })
    const ends = new Map<string, () => void>()
    /** The device time of the jobs that have ended, by owner, in milliseconds. */
    const tookMs = new Map<string, number>()
    const process = async ({ data: { id } }: { data: GenerateJobData }, _token?: string, signal?: AbortSignal): Promise<string> => {
      const started = await store.start(id, 'bench')
      if (started.result !== 'running') return started.result
      const { input, owner, weight = 1 } = started.record
      const { timings } = await engine.generate(id, toEngineParams(input), { owner: { name: owner, weight }, signal })
      await store.end(id, { status: 'succeeded', output: { images: [] }, gpuMs: timings.deviceMs })
      tookMs.set(owner, (tookMs.get(owner) ?? 0) + timings.deviceMs)
      ends.get(id)?.()
      return 'succeeded'
    }
    const [name, options] = [generateQueueName(modelName), { connection: redis, prefix, skipVersionCheck: true }]
    const fair = {
      places,
      choose: (running: ReadonlyMap<string, number>) => lines.choose(modelName, { running, places }),
      readOwner: async (id: string) => (await store.get(id))?.owner,
    }
    const worker =
      how === 'fair'
        ? new FairWorker(name, process, { ...options, ...fair })
        : new Worker<GenerateJobData, string>(name, process, { ...options, concurrency: places, autorun: false })
    worker.on('error', () => {})
    void worker.run()
    /** Resolves when the job has ended. */
    const submit = async (input: JobInput, owner: string): Promise<{ id: string; ended: Promise<void> }> => {
      const share = how === 'fair' ? { costMs: toCostMs(input), weight: 1 } : {}
      const record = { id: uuidv7(), owner, createdAt: Date.now(), input, priority: 0, ...share }
      const ended = new Promise<void>((resolve) => void ends.set(record.id, resolve))
      await store.create(record)
      await queues.add(modelName, record.id, { priority: toQueuePriority(record) })
      if (worker instanceof FairWorker) worker.wake()
      return { id: record.id, ended }
    }
    return {
      store,
      submit,
      tookMs,
      async close() {
        await worker.close(true)
        await engine.close()
        await queues.close()
      },
    }
  }
  const sides = { fair: await open('fair'), firstCome: await open('firstCome') }
  return {
    async run(how, inputs, owners) {
      const startedAt = performance.now()
      const submitted = await Promise.all(inputs.map((input, i) => sides[how].submit(input, `owner${i % owners}`)))
      await Promise.all(submitted.map(({ ended }) => ended))
      return performance.now() - startedAt
    },
    async runBeside(attack, input) {
      const { store, submit } = sides.fair
      for (const one of attack) await submit(one, 'greedy')
      while ((await store.count('greedy', 'running')) < places) await new Promise((resolve) => setTimeout(resolve, 20))
      const before = deviceMs
      await (
        await submit(input, 'modest')
      ).ended
      return deviceMs - before
    },
    async serve(jobs, untilMs) {
      const { store, submit, tookMs } = sides.fair
      const left = new Map([...Map.groupBy(jobs, ({ owner }) => owner)].map(([owner, own]) => [owner, own.length]))
      const submitted: string[] = []
      const before = new Map(tookMs)
      const beganAt = deviceMs
      const coming = jobs.toSorted((a, b) => a.arrivesAt - b.arrivesAt)
      const isOver = (): boolean => deviceMs - beganAt >= untilMs || [...left.values()].every((count) => count === 0)
      while (!isOver()) {
        while (coming[0] !== undefined && coming[0].arrivesAt <= deviceMs - beganAt) {
          const { owner, input } = coming.shift() as TimedJob
          const { id, ended } = await submit(input, owner)
          submitted.push(id)
          void ended.then(() => left.set(owner, (left.get(owner) ?? 0) - 1))
        }
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      const served = [...left].map(([owner, count]) => {
        return [owner, { deviceMs: (tookMs.get(owner) ?? 0) - (before.get(owner) ?? 0), isDone: count === 0 }] as const
      })
      for (const id of submitted) await store.requestCancel(id)
      return new Map(served)
    },
    async close() {
      await Promise.all([sides.fair.close(), sides.firstCome.close()])
      redis.disconnect()
      await server.stop()
    },
  }
}
