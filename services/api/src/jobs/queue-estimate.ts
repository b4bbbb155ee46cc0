/**
 * How far a queued job is from its turn, and how long a queued or running one will still take, as its owner sees it.
 *
 * The position is the job's place in the order of the fair share. The time follows from the share too: while the owner's own work is done (what
 * is before the job, and the job itself), every other owner gets as much of the device as its weight allows, or as much as it has work for.
 * Work is measured in milliseconds of device time (`toCostMs`) and shared by the model's live workers.
 *
 * The waiting jobs of a model are read again when they have changed, but less often the more there are: each process reads a queue of a
 * thousand up to ten times a second and one of ten thousand once a second. Running jobs are read once a second. Runs in the api.
 */
import type { ModelRecord, WorkerHeartbeat } from '@easel/contract'
import { isRedisUnavailable, toCostMs, toOrder, toStepsMs } from '@easel/job-store'
import type { JobLines, JobRecord, JobStore, JobWork, ModelRegistry, WaitingJobs } from '@easel/job-store'
import { toSharedMs } from './shared-time.ts'

export interface QueueEstimate {
  /** 1 for the next job; null when it is not queued, or a worker is just taking it. */
  position: number | null
  /** The estimated seconds until the end; null when it has ended, or when unknown because no worker lives or no step has been measured. */
  etaSeconds: number | null
  /** For a queued job, the number of workers that could take it now. */
  workers?: number
}

/** A job that is not in the queue yet. */
type NewWork = Pick<JobRecord, 'owner' | 'input' | 'costMs' | 'weight'>

export interface QueueEstimator {
  /** Also unknown when Redis does not answer, because a job that was made or read must reach its client even without an estimate. */
  estimate(record: JobRecord): Promise<QueueEstimate>
  /** The seconds until a job submitted now, behind all others of its owner, would have ended; null when unknown. */
  secondsToEnd(work: NewWork): Promise<number | null>
  /** The seconds until a place in the queue is likely to become free, among everyone's or among one owner's. At least 1. */
  secondsToFreePlace(modelId: string, owner?: string): Promise<number>
  /** The seconds until this much of an owner's waiting work is likely to have begun. At least 1. */
  secondsToBegin(modelId: string, owner: string, workMs: number): Promise<number>
}

/** More milliseconds than any clock may be ahead of this one. */
const farMs = 86_400_000
/** How many running jobs are examined, oldest first. */
const runningLength = 200
const loadMaxAgeMs = 1000
/** For refused callers: their answer must not come from before the burst that filled the queue. */
const freshLoadMaxAgeMs = 100
/** A snapshot of the waiting jobs may be one millisecond older for each this many jobs, up to a second. */
const jobsPerMs = 10
/** The seconds that a refused caller is told when nothing is known, and the most it is ever told. */
const unknownRetrySeconds = 30
const maxRetrySeconds = 3600

const unknown: QueueEstimate = { position: null, etaSeconds: null }

/** The running jobs of one model, and the number of its workers. */
interface Load {
  readAt: number
  model: ModelRecord | undefined
  workers: number
  /** How many of anyone's jobs all workers together run at once. */
  places: number
  running: { id: string; owner: string; weight: number; leftMs: number }[]
}

/** The waiting jobs of one model. */
interface Queue {
  readAt: number
  version: string
  /** Whether this was still true a moment ago. */
  isCurrent: boolean
  waiting: WaitingJobs
  positions: Map<string, number>
}

interface OwnerWork {
  weight: number
  runningMs: number
  waitingMs: number
}

// oxlint-disable-next-line max-lines-per-function -- a list of short methods over what they share.
export function createQueueEstimator(deps: { lines: JobLines; registry: ModelRegistry; store: JobStore }): QueueEstimator {
  const { lines, registry, store } = deps
  const loads = new Map<string, { since: number; load: Promise<Load> }>()
  const queues = new Map<string, Queue>()
  const readings = new Map<string, Promise<Queue>>()

  const readLoadNow = async (modelId: string): Promise<Load> => {
    const [model, heartbeats, running] = await Promise.all([
      registry.model(modelId),
      registry.workers(),
      store.listCreatedBefore('running', Date.now() + farMs, { limit: runningLength }).then((ids) => store.getWorks(ids)),
    ])
    const workers = findServing(heartbeats, modelId)
    return {
      readAt: performance.now(),
      model,
      workers: workers.length,
      places: workers.reduce((sum, worker) => sum + worker.concurrency, 0),
      running: running
        .filter((job) => job.input.model === modelId)
        .map((job) => ({ id: job.id, owner: job.owner, weight: job.weight ?? 1, leftMs: toLeftMs(job, model) })),
    }
  }

  const readLoad = async (modelId: string, maxAgeMs = loadMaxAgeMs): Promise<Load> => {
    let entry = loads.get(modelId)
    if (entry === undefined || performance.now() - entry.since > maxAgeMs) {
      const made = { since: performance.now(), load: readLoadNow(modelId) }
      entry = made
      loads.set(modelId, made)
      // A failure is only for those who wait for it now, not for later callers.
      made.load.catch(() => loads.get(modelId) === made && loads.delete(modelId))
    }
    return await entry.load
  }

  const readQueueNow = async (modelId: string, version: string): Promise<Queue> => {
    const readAt = performance.now()
    const waiting = await lines.read(modelId)
    const queue = { readAt, version, isCurrent: true, waiting, positions: new Map(toOrder(waiting).map((id, i) => [id, i + 1])) }
    queues.set(modelId, queue)
    return queue
  }

  const readQueue = async (modelId: string): Promise<Queue> => {
    const known = queues.get(modelId)
    const version = await lines.version(modelId)
    const ageMs = performance.now() - (known?.readAt ?? Number.NEGATIVE_INFINITY)
    // Jobs that BullMQ puts back do not change the version.
    if (known?.version === version && ageMs < loadMaxAgeMs) return known
    if (known !== undefined && ageMs < toMaxAgeMs(known.positions.size)) return { ...known, isCurrent: false }
    // Callers at the same time share one reading.
    const reading = readings.get(modelId) ?? readQueueNow(modelId, version).finally(() => readings.delete(modelId))
    readings.set(modelId, reading)
    return await reading
  }

  const estimate = async (record: JobRecord): Promise<QueueEstimate> => {
    if (record.status !== 'queued' && record.status !== 'running') return unknown
    const modelId = record.input.model
    const [load, queue] = await Promise.all([readLoad(modelId), readQueue(modelId)])
    if (record.status === 'running') {
      const own = toLeftMs(record, load.model)
      // Jobs of one owner that run together share its part: until one ends, each of the others has got as much of it.
      const beside = load.running.filter(({ id, owner }) => owner === record.owner && id !== record.id)
      const ownMs = beside.reduce((sum, { leftMs }) => sum + Math.min(own, leftMs), own)
      return { position: null, etaSeconds: toSeconds(load, shareOthers(load, queue, record.owner, ownMs)) }
    }
    const line = queue.waiting.lines.find(({ owner }) => owner === record.owner)
    const index = line?.jobs.findIndex(({ id }) => id === record.id) ?? -1
    const before = line === undefined ? [] : index < 0 ? line.jobs : line.jobs.slice(0, index)
    // One that is not in a queue of a moment ago is just being taken; in one that has changed since it may have come, behind all others.
    const position = queue.positions.get(record.id) ?? (queue.isCurrent ? null : queue.positions.size + 1)
    const { workers } = load
    if (position === null) return { position, etaSeconds: null, workers }
    const ownMs = runningOf(load, record.owner) + sum(before.map(({ costMs }) => costMs)) + toWholeMs(record, load.model)
    return { position, etaSeconds: toSeconds(load, shareOthers(load, queue, record.owner, ownMs)), workers }
  }

  const atLeastOne = (seconds: number | null): number => Math.min(maxRetrySeconds, Math.max(1, seconds ?? unknownRetrySeconds))

  return {
    async estimate(record) {
      try {
        return await estimate(record)
      } catch (error) {
        if (isRedisUnavailable(error)) return unknown
        throw error
      }
    },

    async secondsToEnd(work) {
      const [load, queue] = await Promise.all([readLoad(work.input.model, freshLoadMaxAgeMs), readQueue(work.input.model)])
      const own = queue.waiting.lines.find(({ owner }) => owner === work.owner)?.jobs ?? []
      const ownMs = runningOf(load, work.owner) + sum(own.map(({ costMs }) => costMs)) + toWholeMs(work, load.model)
      return toSeconds(load, shareOthers(load, queue, work.owner, ownMs, work.weight))
    },

    async secondsToFreePlace(modelId, owner) {
      const [load, queue] = await Promise.all([readLoad(modelId, freshLoadMaxAgeMs), readQueue(modelId)])
      const own = load.running.filter((job) => job.owner === owner)
      const owners = new Set(load.running.map((job) => job.owner))
      // Where a place is free a job is about to be taken; beyond these, one place is open to an owner who has nothing running.
      const isOpen = queue.waiting.lines.some((line) => !owners.has(line.owner) && (owner ?? line.owner) === line.owner)
      if (load.running.length < load.places || (isOpen && load.running.length < 2 * load.places)) return atLeastOne(toSeconds(load, 0))
      // The job that is nearest to its end makes the place.
      const ends = (own.length > 0 ? own : load.running).map((job) => shareOthers(load, queue, job.owner, job.leftMs))
      return atLeastOne(toSeconds(load, Math.min(...ends)))
    },

    async secondsToBegin(modelId, owner, workMs) {
      const [load, queue] = await Promise.all([readLoad(modelId, freshLoadMaxAgeMs), readQueue(modelId)])
      return atLeastOne(toSeconds(load, shareOthers(load, queue, owner, workMs)))
    },
  }
}

/**
 * The workers that serve the model now. A worker that lives but can take no jobs does not count: its engine is loading the model again, it is
 * shutting down, or it has lost its connection.
 */
export function countWorkers(workers: readonly WorkerHeartbeat[], modelId: string): number {
  return findServing(workers, modelId).length
}

function findServing(workers: readonly WorkerHeartbeat[], modelId: string): WorkerHeartbeat[] {
  return workers.filter((worker) => worker.model === modelId && worker.ready)
}

function toMaxAgeMs(jobs: number): number {
  return Math.min(loadMaxAgeMs, jobs / jobsPerMs)
}

/** By what is measured now, which may be better than what was known when the job came: then perhaps nothing. */
function toWholeMs({ costMs, input }: Pick<JobWork, 'costMs' | 'input'>, model: ModelRecord | undefined): number {
  return model?.step_ms == null ? (costMs ?? toCostMs(input, model)) : toCostMs(input, model)
}

/** The device time that a job still needs, in milliseconds. */
export function toLeftMs(job: JobWork, model: ModelRecord | undefined): number {
  const { step, total } = job.progress
  // The decoding comes after the last step.
  return toWholeMs(job, model) - toStepsMs(job.input, model) * (total > 0 ? Math.min(1, step / total) : 0)
}

function runningOf({ running }: Load, owner: string): number {
  return sum(running.filter((job) => job.owner === owner).map(({ leftMs }) => leftMs))
}

/** The time of one device until this much of an owner's work is done, with the others' work beside it. */
function shareOthers({ running }: Load, { waiting }: Queue, owner: string, ownMs: number, ownWeight?: number): number {
  const works = new Map<string, OwnerWork>()
  const of = (name: string, weight: number): OwnerWork => {
    const work = works.get(name) ?? { weight, runningMs: 0, waitingMs: 0 }
    works.set(name, work)
    return work
  }
  for (const line of waiting.lines) of(line.owner, line.weight).waitingMs = sum(line.jobs.map(({ costMs }) => costMs))
  for (const job of running) of(job.owner, job.weight).runningMs += job.leftMs
  const weight = works.get(owner)?.weight ?? ownWeight ?? 1
  works.delete(owner)
  const others = [...works.values()].map((work) => ({ weight: work.weight, workMs: work.runningMs + work.waitingMs }))
  return toSharedMs(ownMs, weight, others)
}

function toSeconds({ model, workers }: Load, workMs: number): number | null {
  if (model === undefined || model.step_ms === null || workers === 0) return null
  return Math.ceil(workMs / 1000 / workers)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
