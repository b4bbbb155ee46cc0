import type { WorkerHeartbeat } from '@easel/contract'

/**
 * The workers that serve the model now. A worker that lives but can take no jobs is not among them: its engine is loading the model again, it is
 * shutting down, or it has lost its connection.
 */
export function findServingWorkers(workers: readonly WorkerHeartbeat[], modelId: string): WorkerHeartbeat[] {
  return workers.filter((worker) => worker.model === modelId && worker.ready)
}
