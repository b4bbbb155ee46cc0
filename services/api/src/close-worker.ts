/**
 * Ends a BullMQ worker of this process in bounded time, also while Redis is away: BullMQ's own `close` would wait for it. A job that could
 * not be handed back is taken over by another process when its lock runs out. Runs in the api.
 */
import type { Worker } from 'bullmq'
import { settle } from '@easel/process'

export interface CloseWorkerOptions {
  /** Milliseconds that jobs under way have to end. */
  graceMs: number
  /** Ends the jobs that are still under way then, by telling them; they get as long again as they need to hand themselves back, a second at most. Default: nothing. */
  stop?: () => void
}

export async function closeWorker(worker: Pick<Worker, 'close' | 'pause'>, { graceMs, stop }: CloseWorkerOptions): Promise<void> {
  // Takes no more jobs and waits for those it has.
  const idle = worker.pause().catch(() => {})
  await settle(idle, graceMs)
  if (stop !== undefined) {
    stop()
    await settle(idle, 1000)
  }
  await worker.close(true)
}
