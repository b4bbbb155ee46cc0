/**
 * What operators see of the service: workers, queues, failures, shares and webhooks, assembled from the workers' announcements, from the
 * records of jobs and from the queues.
 *
 * Invariant: every list is limited in length, no record is read whole, and nothing that a client wrote is in it: no prompts, no paths of receivers.
 * Runs in the api.
 */
import { jobStatuses } from '@easel/contract'
import type { Excerpt, Failure, FailureStatus, JobStatus, ModelStatus, ServiceStatus, WaitingWebhook, WorkerStatus } from '@easel/contract'
import { listFailedJobs } from '@easel/job-store'
import type { FailedJob, LiveWorker, RegisteredModel, WaitingMessage } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { readServiceState } from '../metrics/service-state.ts'
import type { ServiceState, StateNeeds } from '../metrics/service-state.ts'

export type StatusNeeds = StateNeeds & Pick<AppDeps, 'apiKeys' | 'config' | 'usage'>

/** The most models, and the most workers, that are listed. */
const mostListed = 50
/** How many failed jobs are read, and how many different failures are listed. */
const failuresLookedAt = 200
const mostFailures = 20
/** How many owners are listed of those waiting for one model, and of those who have used most. */
const mostOwners = 20
/** How many webhook messages are listed. */
const mostMessages = 20

export async function readStatus(deps: StatusNeeds): Promise<ServiceStatus> {
  const { apiKeys, config, now, outbox, redis, registry, store, usage } = deps
  const [state, models, workers, counts, failedJobs, webhooks, messages] = await Promise.all([
    readServiceState(deps),
    registry.models(),
    registry.workers(),
    Promise.all(jobStatuses.map(async (status) => [status, await store.count('', status)] as const)),
    listFailedJobs({ redis, keys: store.keys }, failuresLookedAt),
    outbox.counts(),
    outbox.listWaiting(mostMessages),
  ])
  const listed = toExcerpt(models.map((model) => toModel(model, state, config.defaultModel)).sort(byWork))
  const { owners, othersGpuMs } = await usage.readStandings(
    listed.listed.map(({ id }) => id),
    mostOwners,
  )
  return {
    read_at: new Date(now()).toISOString(),
    jobs: Object.fromEntries(counts) as Record<JobStatus, number>,
    models: listed,
    workers: toExcerpt(workers.map(toWorker).sort((a, b) => (a.model + a.id < b.model + b.id ? -1 : 1))),
    failures: toFailures(failedJobs),
    shares: {
      listed: owners.map(({ owner, running, waiting, queuedMs, todayMs, gpuMs }) => ({
        owner,
        weight: apiKeys.weightOf(owner),
        running,
        waiting,
        gpu_seconds_queued: queuedMs / 1000,
        gpu_seconds_today: todayMs / 1000,
        gpu_seconds: gpuMs / 1000,
      })),
      others_gpu_seconds: othersGpuMs / 1000,
    },
    webhooks: { waiting: webhooks.waiting, sending: webhooks.sending, given_up: webhooks.givenUp, listed: messages.map(toMessage) },
  }
}

function toExcerpt<T>(all: readonly T[]): Excerpt<T> {
  return { total: all.length, listed: all.slice(0, mostListed) }
}

function toModel({ id, step_ms, announced_at }: RegisteredModel, { models }: ServiceState, defaultModel: string): ModelStatus {
  const { waiting = 0, active = 0, oldestAgeSeconds = 0, gpuSecondsQueued = 0, workers = 0 } = models.get(id) ?? {}
  return {
    id,
    default: id === defaultModel,
    workers,
    waiting,
    active,
    oldest_age_seconds: oldestAgeSeconds,
    gpu_seconds_queued: gpuSecondsQueued,
    step_ms,
    announced_at,
  }
}

/** Models with jobs or workers first, because the registry never forgets a model. */
function byWork(a: ModelStatus, b: ModelStatus): number {
  return b.waiting + b.active - (a.waiting + a.active) || b.workers - a.workers || (a.id < b.id ? -1 : 1)
}

function toWorker({ id, model, device, ready, heard_at, active, concurrency, engine_memory_bytes, engine, gpu }: LiveWorker): WorkerStatus {
  const hasRun = engine !== undefined && engine.steps > 0
  return {
    id,
    model,
    device,
    ready,
    heard_at,
    active,
    concurrency,
    engine_memory_bytes,
    gpu,
    rows_per_step: hasRun ? engine.rows / engine.steps : null,
    batching_gain: hasRun ? engine.batching_gain : null,
    waiting_rows: engine?.waiting_rows ?? 0,
    memory_waiting: engine?.memory_waiting ?? 0,
    memory_shortages: engine?.memory_shortages ?? 0,
  }
}

function toFailures(jobs: readonly FailedJob[]): FailureStatus {
  const alike = Map.groupBy(jobs, ({ error }) => `${error.code} ${error.message}`)
  const failures = [...alike.values()].map((those): Failure => {
    const latest = those.reduce((a, b) => (b.endedAt > a.endedAt ? b : a))
    const { id, model, owner, error, endedAt } = latest
    return { ...error, count: those.length, latest: { job_id: id, model, owner, ended_at: new Date(endedAt).toISOString() } }
  })
  failures.sort((a, b) => (a.latest.ended_at > b.latest.ended_at ? -1 : 1))
  return { looked_at: jobs.length, listed: failures.slice(0, mostFailures) }
}

function toMessage({ jobId, event, owner, url, attempts, reason, nextAttemptAt }: WaitingMessage): WaitingWebhook {
  return {
    job_id: jobId,
    event,
    owner: owner ?? null,
    // The rest of the URL may contain a secret of the receiver.
    receiver: url === undefined ? null : (URL.parse(url)?.origin ?? null),
    attempts,
    reason: reason ?? null,
    next_attempt_at: nextAttemptAt === undefined ? null : new Date(nextAttemptAt).toISOString(),
  }
}
