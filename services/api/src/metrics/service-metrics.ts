/**
 * Gauges whose values are the same whichever api replica reads them from Redis: queues, waiting work, workers.
 *
 * Invariant: only one replica reports them at a time, the one that holds a lock, which each report renews. The replica releases the lock when
 * it stops; when it is no longer scraped, or dies, the lock expires. The next replica that is scraped takes over. So a sum over replicas
 * counts nothing twice. Runs in the api.
 */
import { randomUUID } from 'node:crypto'
import { Counter, Gauge, Registry } from 'prom-client'
import type { Usage } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { keepReading } from './keep-reading.ts'
import { readServiceState } from './service-state.ts'
import type { ServiceState, StateNeeds } from './service-state.ts'

/** The lifetime of the lock: several usual scrape intervals. */
const lockMs = 45_000

const takeLock = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

/** How many owners have series of their own: those who have used most. The others are summed. */
const toldOwners = 20

const releaseLock = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`

/** Returns a function that gives the text in Prometheus's format, which is empty while another replica reports it. */
export function createServiceMetrics(deps: StateNeeds & Pick<AppDeps, 'apiKeys' | 'logger' | 'stopping' | 'usage'>): () => Promise<string> {
  const { logger, now, redis, stopping, store, usage } = deps
  const replicaId = randomUUID()
  const lock = store.keys.metricsLock
  const release = (): void => {
    redis.eval(releaseLock, 1, lock, replicaId).catch((error: unknown) => {
      logger.warn({ err: error }, 'the lock of the service metrics was not released; they are reported again when it has expired')
    })
  }
  stopping.addEventListener('abort', release, { once: true })
  const read = async (): Promise<string> => {
    if ((await redis.eval(takeLock, 1, lock, replicaId, lockMs)) !== 1) return ''
    const [state, { owners, othersGpuMs }] = await Promise.all([readServiceState(deps), usage.readTop(toldOwners)])
    return (await renderState(state)) + (await renderOwners(owners, othersGpuMs, await readShares(deps, [...state.models.keys()])))
  }
  const readKept = keepReading(read, now)
  return async () => (stopping.aborted ? '' : await readKept())
}

async function renderState({ models, webhooksWaiting }: ServiceState): Promise<string> {
  const registry = new Registry()
  const registers = [registry]
  const ofModel = (name: string, help: string): Gauge<'model'> => new Gauge({ name, help, labelNames: ['model'], registers })
  const depth = new Gauge({
    name: 'easel_queue_depth',
    help: 'Jobs by state: waiting (no worker runs them) or active.',
    labelNames: ['state', 'model'],
    registers,
  })
  const age = ofModel('easel_oldest_job_age_seconds', 'Age of the job that has waited longest; 0 when none waits.')
  const work = ofModel('easel_gpu_seconds_queued', 'Work of the waiting jobs, in seconds of one worker.')
  const workers = ofModel('easel_workers', 'Workers with a fresh heartbeat that can take jobs.')
  for (const [model, state] of models) {
    depth.set({ state: 'waiting', model }, state.waiting)
    depth.set({ state: 'active', model }, state.active)
    age.set({ model }, state.oldestAgeSeconds)
    work.set({ model }, state.gpuSecondsQueued)
    workers.set({ model }, state.workers)
  }
  const webhooks = new Gauge({ name: 'easel_webhook_queue_depth', help: 'Webhook messages that wait to be sent.', registers })
  webhooks.set(webhooksWaiting)
  return await registry.metrics()
}

type TopOwners = Awaited<ReturnType<Usage['readTop']>>['owners']

/** The part of the device's time that is due to each owner with jobs waiting: its weight over the sum of the weights of all such owners. */
async function readShares(
  { apiKeys, redis, store }: Pick<AppDeps, 'apiKeys' | 'redis' | 'store'>,
  models: readonly string[],
): Promise<Map<string, number>> {
  const waiting = await Promise.all(models.map((model) => redis.zrange(store.keys.shareOwners(model), 0, '-1')))
  const owners = [...new Set(waiting.flat())]
  const sum = owners.reduce((total, owner) => total + apiKeys.weightOf(owner), 0)
  return new Map(owners.map((owner) => [owner, apiKeys.weightOf(owner) / sum]))
}

async function renderOwners(owners: TopOwners, othersGpuMs: number, shares: ReadonlyMap<string, number>): Promise<string> {
  const registry = new Registry()
  const options = { labelNames: ['owner'] as const, registers: [registry] }
  const used = new Counter({
    name: 'easel_owner_gpu_seconds_total',
    help: 'Device time that the jobs of an owner have had.',
    ...options,
  })
  const queued = new Gauge({
    name: 'easel_owner_gpu_seconds_queued',
    help: 'Estimated device time of an owner’s waiting jobs.',
    ...options,
  })
  const share = new Gauge({
    name: 'easel_owner_share',
    help: 'Part of the device’s time that is due to an owner with jobs waiting: its weight over the sum of the weights of all such owners; 0 when it has none waiting.',
    ...options,
  })
  for (const { owner, gpuMs, queuedMs } of owners) {
    used.inc({ owner }, gpuMs / 1000)
    queued.set({ owner }, queuedMs / 1000)
    share.set({ owner }, shares.get(owner) ?? 0)
  }
  if (othersGpuMs > 0) used.inc({ owner: 'all others' }, othersGpuMs / 1000)
  return `\n${await registry.metrics()}`
}
