/**
 * The position of a queued job, and how long a queued or running job will still take, as its owner sees it.
 *
 * The position is the job's place in the order of the fair share. The time follows from the share too: while the owner's own work is done (what
 * is before the job, and the job itself), every other owner gets as much of the device as its weight allows, or as much as it has work for.
 * Work is measured in milliseconds of device time (`toCostMs`) and shared by the model's live workers. Runs in the api.
 */
import { isRedisUnavailable } from '@easel/job-store'
import type { JobRecord } from '@easel/job-store'
import { toLeftMs, toWholeMs } from './device-time.ts'
import { QueueSnapshots } from './queue-snapshots.ts'
import type { Load, QueueSnapshotsOptions, Waiting } from './queue-snapshots.ts'
import { toSharedMs } from './shared-time.ts'

export interface QueueEstimate {
  /** 1 for the next job; null when it is not queued, or when a worker is just taking it. */
  position: number | null
  /** The estimated seconds until the end; null when it has ended, or when unknown because there is no worker or no step has been measured. */
  etaSeconds: number | null
  /** For a queued job, the number of workers that could take it now. */
  workers?: number
}

/** A job that is not in the queue yet. */
type NewWork = Pick<JobRecord, 'owner' | 'input' | 'costMs' | 'weight'>

/** How many milliseconds old a load may be for refused callers: their answer must not come from before the burst that filled the queue. */
const freshMs = 100
/** The Retry-After of a refused caller in seconds: when nothing is known, and at most. */
const unknownRetrySeconds = 30
const maxRetrySeconds = 3600

const unknown: QueueEstimate = { position: null, etaSeconds: null }

interface OwnerWork {
  weight: number
  runningMs: number
  waitingMs: number
}

/** What runs and what waits, at one moment. */
interface Now {
  load: Load
  waiting: Waiting
}

export class QueueEstimator {
  readonly #snapshots: QueueSnapshots
  readonly #now: () => number

  constructor(options: QueueSnapshotsOptions) {
    this.#snapshots = new QueueSnapshots(options)
    this.#now = options.now
  }

  /** Also unknown when Redis does not answer, because a job that was made or read must reach its client even without an estimate. */
  async estimate(record: JobRecord): Promise<QueueEstimate> {
    if (record.status !== 'queued' && record.status !== 'running') return unknown
    try {
      const now = await this.#look(record.input.model)
      return record.status === 'running' ? estimateRunning(record, now, this.#now()) : estimateQueued(record, now)
    } catch (error) {
      if (isRedisUnavailable(error)) return unknown
      throw error
    }
  }

  /** The seconds until a job submitted now, behind all others of its owner, would have ended; null when unknown. */
  async secondsToEnd(work: NewWork): Promise<number | null> {
    const now = await this.#look(work.input.model, { maxAgeMs: freshMs })
    const { load, waiting } = now
    const own = waiting.lines.find(({ owner }) => owner === work.owner)?.jobs ?? []
    const ownMs = runningOf(load, work.owner) + sum(own.map(({ costMs }) => costMs)) + toWholeMs(work, load.model)
    return toSeconds(load, shareOthers(now, work.owner, ownMs, work.weight))
  }

  /** The seconds until a place in the queue is likely to become free, for any owner or for one. At least 1. */
  async secondsToFreePlace(modelId: string, owner?: string): Promise<number> {
    const now = await this.#look(modelId, { maxAgeMs: freshMs })
    const { load, waiting } = now
    const own = load.running.filter((job) => job.owner === owner)
    const owners = new Set(load.running.map((job) => job.owner))
    // If a place is free, a job is about to be taken. Beyond these places, each further one is open only to an owner who has nothing running.
    const isOpen = waiting.lines.some((line) => !owners.has(line.owner) && (owner ?? line.owner) === line.owner)
    if (load.running.length < load.places || (isOpen && load.running.length < 2 * load.places)) return atLeastOne(toSeconds(load, 0))
    // Otherwise the job that is nearest to its end will free a place.
    const ends = (own.length > 0 ? own : load.running).map((job) => shareOthers(now, job.owner, job.leftMs))
    return atLeastOne(toSeconds(load, Math.min(...ends)))
  }

  /** The seconds until this much of an owner's waiting work is likely to have begun. At least 1. */
  async secondsToBegin(modelId: string, owner: string, workMs: number): Promise<number> {
    const now = await this.#look(modelId, { maxAgeMs: freshMs })
    return atLeastOne(toSeconds(now.load, shareOthers(now, owner, workMs)))
  }

  async #look(modelId: string, options?: { maxAgeMs: number }): Promise<Now> {
    const [load, waiting] = await Promise.all([this.#snapshots.load(modelId, options), this.#snapshots.waiting(modelId)])
    return { load, waiting }
  }
}

function estimateRunning(record: JobRecord, now: Now, nowMs: number): QueueEstimate {
  const { load } = now
  const leftMs = toLeftMs(record, load.model, nowMs)
  // Jobs of one owner that run together share its part: until one ends, each of the others has got as much of it.
  const beside = load.running.filter(({ id, owner }) => owner === record.owner && id !== record.id)
  const ownMs = beside.reduce((total, job) => total + Math.min(leftMs, job.leftMs), leftMs)
  return { position: null, etaSeconds: toSeconds(load, shareOthers(now, record.owner, ownMs)) }
}

function estimateQueued(record: JobRecord, now: Now): QueueEstimate {
  const { load, waiting } = now
  const { workers } = load
  const line = waiting.lines.find(({ owner }) => owner === record.owner)
  const index = line?.jobs.findIndex(({ id }) => id === record.id) ?? -1
  const before = line === undefined ? [] : index < 0 ? line.jobs : line.jobs.slice(0, index)
  // A job that is not in a current snapshot is just being taken. If the snapshot may be out of date, the job may have been queued since, at the end.
  const position = waiting.positions.get(record.id) ?? (waiting.isCurrent ? null : waiting.positions.size + 1)
  if (position === null) return { position, etaSeconds: null, workers }
  const ownMs = runningOf(load, record.owner) + sum(before.map(({ costMs }) => costMs)) + toWholeMs(record, load.model)
  return { position, etaSeconds: toSeconds(load, shareOthers(now, record.owner, ownMs)), workers }
}

function runningOf({ running }: Load, owner: string): number {
  return sum(running.filter((job) => job.owner === owner).map(({ leftMs }) => leftMs))
}

/** The time of one device until this much of an owner's work is done, with the others' work beside it. */
function shareOthers({ load, waiting }: Now, owner: string, ownMs: number, ownWeight?: number): number {
  const works = new Map<string, OwnerWork>()
  const of = (name: string, weight: number): OwnerWork => {
    const work = works.get(name) ?? { weight, runningMs: 0, waitingMs: 0 }
    works.set(name, work)
    return work
  }
  for (const line of waiting.lines) of(line.owner, line.weight).waitingMs = sum(line.jobs.map(({ costMs }) => costMs))
  for (const job of load.running) of(job.owner, job.weight).runningMs += job.leftMs
  const weight = works.get(owner)?.weight ?? ownWeight ?? 1
  works.delete(owner)
  const others = [...works.values()].map((work) => ({ weight: work.weight, workMs: work.runningMs + work.waitingMs }))
  return toSharedMs(ownMs, weight, others)
}

function toSeconds({ model, workers }: Load, workMs: number): number | null {
  if (model === undefined || model.step_ms === null || workers === 0) return null
  return Math.ceil(workMs / 1000 / workers)
}

function atLeastOne(seconds: number | null): number {
  return Math.min(maxRetrySeconds, Math.max(1, seconds ?? unknownRetrySeconds))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
