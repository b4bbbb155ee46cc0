/**
 * Closes a BullMQ worker of this process in bounded time, even while Redis is away, for which BullMQ's own `close` would wait. A job that
 * could not be handed back is taken over by another process when its lock expires. Runs in the api.
 */
import type { Worker } from 'bullmq'
import { settle } from '@easel/process'

export interface CloseWorkerOptions {
  /** How many milliseconds jobs under way have to end. */
  graceMs: number
  /** Tells the jobs that are then still under way to stop; they have up to another second to return themselves to the queue. Default nothing. */
  stop?: () => void
}

export async function closeWorker(worker: Pick<Worker, 'close' | 'pause'>, { graceMs, stop }: CloseWorkerOptions): Promise<void> {
  // Takes no more jobs and waits for those under way.
  const idle = worker.pause().catch(() => {})
  await settle(idle, graceMs)
  if (stop !== undefined) {
    stop()
    await settle(idle, 1000)
  }
  await worker.close(true)
}
