/**
 * How far a queued job is from its turn, and how long a queued or running one still takes.
 *
 * The position is exact and costs one round trip however long the queue is. The time is an estimate: work (steps × images × pixels over
 * the pixels of a default image) ahead and own, times the model's measured step, shared by its live workers. The work of the front of the
 * queue and of the running jobs is read at most once a second by a process; beyond the front its mean stands for the rest.
 * Knows BullMQ's order: the `wait` list from its end, then the `prioritized` set by score. Runs in the api.
 */
import type { ModelRecord, WorkerHeartbeat } from '@easel/contract'
import { isRedisUnavailable } from '@easel/job-store'
import type { JobRecord, JobStore, JobWork, WorkInput } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

export interface QueueEstimate {
  /** 1 = next; null when not queued, or when a worker is just taking it. */
  position: number | null
  /** Estimated seconds until the end; null when ended or unknown: no live worker, no step measured yet. */
  etaSeconds: number | null
  /** Of a queued job: workers that could take it now. */
  workers?: number
}

export type EstimateNeeds = Pick<AppDeps, 'queues' | 'redis' | 'registry' | 'store'>

/** Queued jobs whose own work is counted; those behind them count as the mean of these. */
const frontLength = 100
/** Running jobs that are looked at. */
const runningLength = 200
const loadMaxAgeMs = 1000
/** Seconds told to a refused caller when nothing is known, and the most that is ever told. */
const unknownRetrySeconds = 30
const maxRetrySeconds = 3600

const unknown: QueueEstimate = { position: null, etaSeconds: null }

/** Unknown also when Redis cannot say: a job that was made or read must reach its client without an estimate. */
export async function estimateQueue(deps: EstimateNeeds, record: JobRecord): Promise<QueueEstimate> {
  try {
    return await estimate(deps, record)
  } catch (error) {
    if (isRedisUnavailable(error)) return unknown
    throw error
  }
}

async function estimate(deps: EstimateNeeds, record: JobRecord): Promise<QueueEstimate> {
  if (record.status !== 'queued' && record.status !== 'running') return unknown
  const load = await readLoad(deps, record.input.model)
  if (record.status === 'running') return { position: null, etaSeconds: toSeconds(load, runningWork(load, record)) }
  const position = await readPosition(deps, record)
  const { workers } = load
  if (position === null) return { position, etaSeconds: null, workers }
  return { position, etaSeconds: toSeconds(load, workAhead(load, record, position) + workOf(record.input, load.model)), workers }
}

/** Seconds until a place in the queue is likely to come free: of everyone's, or of one owner's. At least 1. */
export async function estimateFreePlace(deps: EstimateNeeds, modelId: string, owner?: string): Promise<number> {
  const load = await readLoad(deps, modelId)
  let seconds: number | null
  if (owner === undefined) {
    const ends = load.running.map((job) => runningWork(load, job))
    seconds = toSeconds(load, ends.length === 0 ? 0 : Math.min(...ends))
  } else {
    const oldest = (await deps.store.list(owner, { status: 'queued', limit: frontLength })).findLast((job) => job.input.model === modelId)
    const position = oldest === undefined ? null : await readPosition(deps, oldest)
    seconds = oldest === undefined || position === null ? null : toSeconds(load, workAhead(load, oldest, position))
  }
  return Math.min(maxRetrySeconds, Math.max(1, seconds ?? unknownRetrySeconds))
}

async function readPosition({ queues, redis }: EstimateNeeds, { id, input }: JobRecord): Promise<number | null> {
  const queue = queues.of(input.model)
  const [wait, prioritized] = [queue.toKey('wait'), queue.toKey('prioritized')]
  // In `wait` are only jobs that BullMQ puts back, at most the few that workers held.
  const replies = await redis.multi().llen(wait).lpos(wait, id).zrank(prioritized, id).exec()
  const [waiting, place, rank] = (replies ?? []).map(([error, reply]) => {
    if (error !== null) throw error
    return reply as number | null
  })
  if (typeof place === 'number') return (waiting ?? 0) - place
  return typeof rank === 'number' ? (waiting ?? 0) + rank + 1 : null
}

/** What there is to do for one model. */
interface Load {
  model: ModelRecord | undefined
  workers: number
  running: JobRecord[]
  /** Work before each of the next jobs, by id, in the order in which they run. */
  front: Map<string, number>
  /** Mean work of a queued job; undefined when none was queued. */
  meanWork: number | undefined
}

const loads = new WeakMap<JobStore, Map<string, { readAt: number; load: Promise<Load> }>>()

async function readLoad(deps: EstimateNeeds, modelId: string): Promise<Load> {
  const ofModels = loads.get(deps.store) ?? new Map<string, { readAt: number; load: Promise<Load> }>()
  loads.set(deps.store, ofModels)
  let entry = ofModels.get(modelId)
  if (entry === undefined || performance.now() - entry.readAt > loadMaxAgeMs) {
    entry = { readAt: performance.now(), load: readLoadNow(deps, modelId) }
    ofModels.set(modelId, entry)
    // A failure is for those who wait for it now, not for those who come after.
    entry.load.catch(() => ofModels.delete(modelId))
  }
  return await entry.load
}

async function readLoadNow({ queues, redis, registry, store }: EstimateNeeds, modelId: string): Promise<Load> {
  const queue = queues.of(modelId)
  const [model, workers, running, waiting, prioritized] = await Promise.all([
    registry.model(modelId),
    registry.workers(),
    store.list('', { status: 'running', limit: runningLength }),
    redis.lrange(queue.toKey('wait'), -frontLength, -1),
    redis.zrange(queue.toKey('prioritized'), 0, String(frontLength - 1)),
  ])
  const next = await store.getMany([...waiting.reverse(), ...prioritized].slice(0, frontLength))
  const front = new Map<string, number>()
  let work = 0
  for (const { id, input } of next) {
    front.set(id, work)
    work += workOf(input, model)
  }
  return {
    model,
    workers: countWorkers(workers, modelId),
    running: running.filter((job) => job.input.model === modelId),
    front,
    meanWork: next.length === 0 ? undefined : work / next.length,
  }
}

/**
 * Workers that serve the model now. One that lives but can take no jobs (its engine is loading the model again, it ends, it has lost the
 * connection that waits for jobs) serves nobody.
 */
export function countWorkers(workers: readonly WorkerHeartbeat[], modelId: string): number {
  return workers.filter((worker) => worker.model === modelId && worker.ready).length
}

/** In steps of one image of the model's default size. */
export function workOf(
  { num_inference_steps: steps, num_images_per_prompt: images, width, height }: WorkInput,
  model?: ModelRecord,
): number {
  const pixels = model === undefined ? 1 : (width * height) / (model.defaults.width * model.defaults.height)
  return steps * images * pixels
}

export function workLeft({ input, progress }: Pick<JobWork, 'input' | 'progress'>, model?: ModelRecord): number {
  const left = progress.total > 0 ? Math.max(0, 1 - progress.step / progress.total) : 1
  return workOf(input, model) * left
}

function workAhead(load: Load, { id, input }: JobRecord, position: number): number {
  const running = load.running.reduce((sum, job) => sum + workLeft(job, load.model), 0)
  return running + (load.front.get(id) ?? (load.meanWork ?? workOf(input, load.model)) * (position - 1))
}

/** Jobs that run together share the device: until one ends, each of the others has got as much of it. */
function runningWork({ running, model }: Load, record: JobRecord): number {
  const own = workLeft(record, model)
  return running.reduce((sum, job) => sum + (job.id === record.id ? 0 : Math.min(own, workLeft(job, model))), own)
}

function toSeconds({ model, workers }: Load, work: number): number | null {
  if (model === undefined || model.step_ms === null || workers === 0) return null
  return Math.ceil((work * model.step_ms) / 1000 / workers)
}
