/** For log lines about a job whose record is not at hand: the id of the HTTP request that made it. Costs a read, so not for what happens often. */
import type { JobStore } from './job-store.ts'

/** Undefined also when the record cannot be read: a line must not be lost for it. */
export async function findRequestId(store: Pick<JobStore, 'get'>, jobId: string): Promise<string | undefined> {
  try {
    return (await store.get(jobId))?.requestId
  } catch {
    return undefined
  }
}
