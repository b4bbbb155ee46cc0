/** How long a queued or running job still takes, as far as it can be told. */
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app.ts'

export interface QueueEstimate {
  /** 1 = next; null when not queued or unknown. */
  position: number | null
  /** Estimated seconds until the end; null when ended or unknown. */
  etaSeconds: number | null
}

export function estimateQueue(_deps: AppDeps, _record: JobRecord): Promise<QueueEstimate> {
  return Promise.resolve({ position: null, etaSeconds: null })
}
