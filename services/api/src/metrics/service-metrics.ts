/**
 * Gauges that say the same whichever api replica reads them from Redis: queues, waiting work, workers.
 *
 * Invariant: one replica tells them at a time, the one that holds a lock which every telling renews; when it is asked no more, the lock runs
 * out and the next replica that is asked takes over. So a sum over replicas counts nothing twice. Runs in the api.
 */
import { Gauge, Registry } from 'prom-client'
import { jobIdCreatedAt } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'
import { workOf } from '../jobs/queue-estimate.ts'

interface ServiceState {
  waiting: number
  active: number
  /** Age of the job that waits longest; 0 when none waits. */
  oldestAgeSeconds: number
  /** Waiting work, in seconds of one worker. */
  gpuSecondsQueued: number
  /** Webhook messages that wait for their first or next attempt. */
  webhooksWaiting: number
  /** Workers with a fresh heartbeat, by model. */
  workers: Record<string, number>
}

type Needs = Pick<AppDeps, 'now' | 'outbox' | 'redis' | 'registry' | 'store'>

/** Waiting jobs whose own work is counted, oldest first; those behind them count as the mean of these. */
const countedJobs = 1000
/** A step costs this where none has been measured, so that work for a model that never ran is not nothing. */
const unknownStepMs = 1000
/** Life of the lock: some usual scrape intervals. */
const lockMs = 45_000

const takeLock = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

/** Text in Prometheus' format, empty while another replica tells it. `replicaId`: unlike that of any other replica. */
export async function renderServiceMetrics(deps: Needs, replicaId: string): Promise<string> {
  const { redis, store } = deps
  if ((await redis.eval(takeLock, 1, store.keys.metricsLock, replicaId, lockMs)) !== 1) return ''
  return await renderState(await readServiceState(deps))
}

async function readServiceState({ now, outbox, registry, store }: Needs): Promise<ServiceState> {
  const [waiting, active, workers, models, oldest, webhooksWaiting] = await Promise.all([
    store.count('', 'queued'),
    store.count('', 'running'),
    registry.workers(),
    registry.models(),
    store.listCreatedBefore('queued', now() + 1, { limit: countedJobs }),
    outbox.count(),
  ])
  const jobs = (await store.getMany(oldest)).filter((job) => job.status === 'queued')
  const modelsById = new Map(models.map((model) => [model.id, model]))
  const ms = jobs.reduce((sum, { input }) => {
    const model = modelsById.get(input.model)
    return sum + workOf(input, model) * (model?.step_ms ?? unknownStepMs)
  }, 0)
  const beyond = jobs.length === 0 ? 1 : Math.max(1, waiting / jobs.length)
  const byModel = models.map(({ id }): [string, number] => [id, workers.filter(({ model }) => model === id).length])
  const first = jobs[0]
  return {
    waiting,
    active,
    oldestAgeSeconds: first === undefined ? 0 : Math.max(0, (now() - jobIdCreatedAt(first.id)) / 1000),
    gpuSecondsQueued: (ms * beyond) / 1000,
    webhooksWaiting,
    workers: Object.fromEntries(byModel),
  }
}

async function renderState(state: ServiceState): Promise<string> {
  const registry = new Registry()
  const registers = [registry]
  const depth = new Gauge({ name: 'queue_depth', help: 'Jobs by state: waiting or active.', labelNames: ['state'], registers })
  depth.set({ state: 'waiting' }, state.waiting)
  depth.set({ state: 'active' }, state.active)
  const age = new Gauge({ name: 'oldest_job_age_seconds', help: 'Age of the job that waits longest; 0 when none waits.', registers })
  age.set(state.oldestAgeSeconds)
  const work = new Gauge({ name: 'gpu_seconds_queued', help: 'Work of the waiting jobs, in seconds of one worker.', registers })
  work.set(state.gpuSecondsQueued)
  const webhooks = new Gauge({ name: 'webhook_queue_depth', help: 'Webhook messages that wait to be sent.', registers })
  webhooks.set(state.webhooksWaiting)
  const workers = new Gauge({ name: 'workers', help: 'Workers with a fresh heartbeat.', labelNames: ['model'], registers })
  for (const [model, count] of Object.entries(state.workers)) workers.set({ model }, count)
  return await registry.metrics()
}
