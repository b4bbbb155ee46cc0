/**
 * How much work there is for each model, and which workers do it: read from the records of jobs, of a limited number and without their prompts.
 *
 * A job waits when no worker runs it: either none has begun it, or the one that had no longer exists (it handed the job over, or was killed).
 * Such a job stays `running` in its record until another worker takes it, so its worker's heartbeat decides. Runs in the api.
 */
import { countStepsRun, jobIdCreatedAt } from '@easel/contract'
import type { JobStatus, ModelRecord } from '@easel/contract'
import { toCostMs } from '@easel/job-store'
import type { JobWork, QueueLook } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { toLeftMs } from '../jobs/device-time.ts'
import { findServingWorkers } from '../jobs/find-serving-workers.ts'

export interface ServiceState {
  /** All models that have a record or jobs. */
  models: Map<string, ModelState>
  /** The number of webhook messages that wait for their first or next attempt. */
  webhooksWaiting: number
}

interface ModelState {
  waiting: number
  active: number
  /** The age of the job that has waited longest; 0 when none waits. */
  oldestAgeSeconds: number
  /** The waiting work, in seconds of one worker. */
  gpuSecondsQueued: number
  /** The number of workers that can take jobs. */
  workers: number
}

export type StateNeeds = Pick<AppDeps, 'now' | 'outbox' | 'queues' | 'redis' | 'registry' | 'store'>

/** For how many queued and how many running jobs the work is read, oldest first. Each of the others counts as its model's mean. */
const countedJobs = 1000
/** The assumed cost of a step where none has been measured, so that work for a model that never ran is not zero. */
const unknownStepMs = 1000

export async function readServiceState(deps: StateNeeds): Promise<ServiceState> {
  const { now, outbox, queues, registry, store } = deps
  const read = async (status: JobStatus): Promise<JobWork[]> => {
    const ids = await store.listCreatedBefore(status, now() + 1, { limit: countedJobs })
    return (await store.getWorks(ids)).filter((job) => job.status === status)
  }
  const [queued, running, queuedCount, runningCount, heartbeats, records, webhooksWaiting] = await Promise.all([
    read('queued'),
    read('running'),
    store.count('', 'queued'),
    store.count('', 'running'),
    registry.workers(),
    registry.models(),
    outbox.count(),
  ])
  const alive = new Set(heartbeats.map(({ id }) => id))
  const isRun = ({ worker }: JobWork): boolean => worker !== undefined && alive.has(worker)
  const waiting = [...queued, ...running.filter((job) => !isRun(job))]
  const active = running.filter(isRun)
  const activeBeyond = Math.max(1, runningCount / Math.max(1, running.length))

  const recordsById = new Map(records.map((record) => [record.id, record]))
  const ids = [...new Set([...recordsById.keys(), ...[...waiting, ...active].map(({ input }) => input.model)])]
  const looks = queuedCount > countedJobs ? await queues.look(ids) : new Map<string, QueueLook>()
  const models = ids.map((id): [string, ModelState] => {
    const ofModel = ({ input }: JobWork): boolean => input.model === id
    const state = {
      ...toWaiting(waiting.filter(ofModel), looks.get(id), recordsById.get(id), now()),
      active: Math.round(active.filter(ofModel).length * activeBeyond),
      workers: findServingWorkers(heartbeats, id).length,
    }
    return [id, state]
  })
  return { models: new Map(models), webhooksWaiting }
}

/** `jobs`: the waiting jobs of the model whose records were read; `queue`: used when there are more. */
function toWaiting(
  jobs: readonly JobWork[],
  queue: QueueLook | undefined,
  model: ModelRecord | undefined,
  now: number,
): Pick<ModelState, 'waiting' | 'oldestAgeSeconds' | 'gpuSecondsQueued'> {
  const waiting = Math.max(jobs.length, queue?.length ?? 0)
  // A job that had run all its steps without storing its pictures still has work to do, so what remains is never zero.
  const works = jobs.map((job) => Math.max(toLeftMs(job, model), toCostMs(job.input, model) / countStepsRun(job.input)))
  const counted = works.reduce((sum, work) => sum + work, 0)
  const mean = jobs.length === 0 ? (model?.defaults.num_inference_steps ?? 1) * (model?.step_ms ?? unknownStepMs) : counted / jobs.length
  const madeAt = [...jobs.map(({ id }) => id), ...(queue?.next ?? [])].map(jobIdCreatedAt)
  return {
    waiting,
    oldestAgeSeconds: madeAt.length === 0 ? 0 : Math.max(0, now - Math.min(...madeAt)) / 1000,
    gpuSecondsQueued: (counted + mean * (waiting - jobs.length)) / 1000,
  }
}
