import type { WorkerHeartbeat } from '@easel/contract'

/**
 * The workers that serve the model now. A worker that is alive but cannot take jobs is not among them: its engine is loading the model again, it
 * is shutting down, or it has lost its connection.
 */
export function findServingWorkers(workers: readonly WorkerHeartbeat[], modelId: string): WorkerHeartbeat[] {
  return workers.filter((worker) => worker.model === modelId && worker.ready)
}
