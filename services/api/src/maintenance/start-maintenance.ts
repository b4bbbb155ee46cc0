/**
 * The regular housekeeping that one of the api replicas does. BullMQ's scheduler in the queue `maintenance` decides when, and the replica that
 * takes the job does it, so that it is done once however many replicas there are. Every task may be repeated and interrupted, and none waits
 * for another: a task that hangs, because the image store does, delays only itself.
 *
 * Waiting jobs need no task for ageing: their place in the queue accounts for it (`toQueuePriority`). Runs in the api.
 */
import { Queue, Worker } from 'bullmq'
import { maintenanceQueueName } from '@easel/contract'
import type { RedisConnection } from '@easel/job-store'
import { settle } from '@easel/process'
import type { AppDeps } from '../app-deps.ts'
import { closeWorker } from '../close-worker.ts'
import { endAbandoned } from './end-abandoned.ts'
import type { EndAbandonedNeeds } from './end-abandoned.ts'
import { expireQueued } from './expire-queued.ts'
import type { ExpireQueuedNeeds } from './expire-queued.ts'
import { requeueOrphans } from './requeue-orphans.ts'
import type { RequeueOrphansNeeds } from './requeue-orphans.ts'
import { sweepExpired } from './sweep-expired.ts'
import type { SweepExpiredNeeds } from './sweep-expired.ts'
import { sweepInputs } from './sweep-inputs.ts'
import type { SweepInputsNeeds } from './sweep-inputs.ts'

type TaskNeeds = EndAbandonedNeeds & ExpireQueuedNeeds & RequeueOrphansNeeds & SweepExpiredNeeds & SweepInputsNeeds

const tasks = {
  'end-abandoned': { everyMs: 5_000, run: endAbandoned },
  'expire-queued': { everyMs: 5_000, run: expireQueued },
  'requeue-orphans': { everyMs: 15_000, run: requeueOrphans },
  'sweep-expired': { everyMs: 60_000, run: sweepExpired },
  'sweep-inputs': { everyMs: 60_000, run: sweepInputs },
} as const
/** How many milliseconds a task under way has to end at `close()`. */
const closeGraceMs = 3000
type TaskName = keyof typeof tasks

export interface MaintenanceOptions {
  /** A connection that waits for Redis (`use: 'worker'`). Its owner closes it. */
  connection: RedisConnection
  /** The milliseconds between two runs, in place of each task's own interval. */
  everyMs?: number
}

export interface Maintenance {
  /** Lets the task under way end, within a few seconds. */
  close(): Promise<void>
}

export function startMaintenance(deps: TaskNeeds & Pick<AppDeps, 'outage'>, { connection, everyMs }: MaintenanceOptions): Maintenance {
  const { logger } = deps
  const shared = { connection, prefix: deps.config.queuePrefix, skipVersionCheck: true }
  const onError = (error: unknown): void => deps.outage.report(error, 'maintenance')
  const queue = new Queue(maintenanceQueueName, shared)
  queue.on('error', onError)
  const underWay = new Set<string>()
  const worker = new Worker<unknown, number>(
    maintenanceQueueName,
    async ({ name }) => {
      // The scheduler continues even if a task takes longer than its interval.
      if (!Object.hasOwn(tasks, name) || underWay.has(name)) return 0
      underWay.add(name)
      try {
        const done = await tasks[name as TaskName].run(deps)
        if (done > 0) logger.info({ task: name, done }, 'maintenance')
        return done
      } finally {
        underWay.delete(name)
      }
    },
    // One more than the number of tasks, for a round that finds its task still under way.
    { ...shared, concurrency: Object.keys(tasks).length + 1, removeOnComplete: { count: 0 }, removeOnFail: { count: 10 } },
  )
  worker.on('error', onError)
  worker.on('failed', (_job, error) => onError(error))

  // Waits for Redis; the process may be told to stop before it answers.
  const scheduled = Promise.all(
    Object.entries(tasks).map(([name, task]) => queue.upsertJobScheduler(name, { every: everyMs ?? task.everyMs }, { name })),
  ).then(() => {}, onError)

  return {
    async close() {
      await closeWorker(worker, { graceMs: closeGraceMs })
      // Without Redis it would wait forever.
      await settle(scheduled, closeGraceMs)
      await queue.close()
    },
  }
}
