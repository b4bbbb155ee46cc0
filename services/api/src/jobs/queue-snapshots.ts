/**
 * What runs and what waits in each model's queue, read from Redis and kept for a moment, so that many requests share one reading.
 *
 * The waiting jobs of a model are read again when they have changed, but less often the more there are: each process reads a queue of a
 * thousand up to ten times a second and one of ten thousand once a second. Running jobs are read once a second. Runs in the api.
 */
import type { ModelRecord } from '@easel/contract'
import { toOrder } from '@easel/job-store'
import type { JobLines, JobStore, ModelRegistry, WaitingJobs } from '@easel/job-store'
import { toLeftMs } from './device-time.ts'
import { findServingWorkers } from './find-serving-workers.ts'

/** The running jobs of one model, and the number of its workers. */
export interface Load {
  model: ModelRecord | undefined
  workers: number
  /** How many jobs of any owners all workers together run at once. */
  places: number
  running: { id: string; owner: string; weight: number; leftMs: number }[]
}

/** The waiting jobs of one model. */
export interface Waiting extends WaitingJobs {
  /** Each job's place in the order of the fair share, from 1. */
  positions: Map<string, number>
  /** Whether this was still true a moment ago. */
  isCurrent: boolean
}

interface WaitingSnapshot {
  readAt: number
  version: string
  waiting: Waiting
}

/** Milliseconds by which no clock is ahead of this one. */
const farMs = 86_400_000
/** How many running jobs are examined, oldest first. */
const runningLength = 200
/** How many milliseconds old a snapshot may be. */
const maxAgeMs = 1000
/** A snapshot of the waiting jobs may be one millisecond older for each this many jobs, up to `maxAgeMs`. */
const jobsPerMs = 10

export interface QueueSnapshotsOptions {
  lines: JobLines
  registry: ModelRegistry
  store: JobStore
  /** The clock that all processes share, in ms. */
  now: () => number
}

export class QueueSnapshots {
  readonly #lines: JobLines
  readonly #registry: ModelRegistry
  readonly #store: JobStore
  readonly #now: () => number
  readonly #loads = new Map<string, { since: number; load: Promise<Load> }>()
  readonly #waiting = new Map<string, WaitingSnapshot>()
  /** Readings of waiting jobs that are under way, for callers at the same time to share. */
  readonly #readings = new Map<string, Promise<Waiting>>()

  constructor({ lines, registry, store, now }: QueueSnapshotsOptions) {
    this.#lines = lines
    this.#registry = registry
    this.#store = store
    this.#now = now
  }

  async load(modelId: string, options: { maxAgeMs?: number } = {}): Promise<Load> {
    let entry = this.#loads.get(modelId)
    if (entry === undefined || performance.now() - entry.since > (options.maxAgeMs ?? maxAgeMs)) {
      const made = { since: performance.now(), load: this.#readLoad(modelId) }
      entry = made
      this.#loads.set(modelId, made)
      // A failed reading rejects only for the callers that wait for it now, not for later ones.
      made.load.catch(() => this.#loads.get(modelId) === made && this.#loads.delete(modelId))
    }
    return await entry.load
  }

  async waiting(modelId: string): Promise<Waiting> {
    const known = this.#waiting.get(modelId)
    const version = await this.#lines.version(modelId)
    const ageMs = performance.now() - (known?.readAt ?? Number.NEGATIVE_INFINITY)
    // Jobs that BullMQ puts back do not change the version.
    if (known?.version === version && ageMs < maxAgeMs) return known.waiting
    if (known !== undefined && ageMs < Math.min(maxAgeMs, known.waiting.positions.size / jobsPerMs)) {
      return { ...known.waiting, isCurrent: false }
    }
    const reading = this.#readings.get(modelId) ?? this.#readWaiting(modelId, version).finally(() => this.#readings.delete(modelId))
    this.#readings.set(modelId, reading)
    return await reading
  }

  async #readLoad(modelId: string): Promise<Load> {
    const [model, heartbeats, running] = await Promise.all([
      this.#registry.model(modelId),
      this.#registry.workers(),
      this.#store.listCreatedBefore('running', this.#now() + farMs, { limit: runningLength }).then((ids) => this.#store.getWorks(ids)),
    ])
    const workers = findServingWorkers(heartbeats, modelId)
    return {
      model,
      workers: workers.length,
      places: workers.reduce((sum, worker) => sum + worker.concurrency, 0),
      running: running
        .filter((job) => job.input.model === modelId)
        .map((job) => ({ id: job.id, owner: job.owner, weight: job.weight ?? 1, leftMs: toLeftMs(job, model, this.#now()) })),
    }
  }

  async #readWaiting(modelId: string, version: string): Promise<Waiting> {
    const readAt = performance.now()
    const jobs = await this.#lines.read(modelId)
    const waiting = { ...jobs, isCurrent: true, positions: new Map(toOrder(jobs).map((id, i) => [id, i + 1])) }
    this.#waiting.set(modelId, { readAt, version, waiting })
    return waiting
  }
}
