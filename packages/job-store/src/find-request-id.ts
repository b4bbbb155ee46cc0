/** The id of the HTTP request that made a job, for log lines written without its record. It costs a read, so it is not for frequent events. */
import type { JobStore } from './job-store.ts'

/** Also undefined when the record cannot be read, because the log line must not be lost for that. */
export async function findRequestId(store: Pick<JobStore, 'get'>, jobId: string): Promise<string | undefined> {
  try {
    return (await store.get(jobId))?.requestId
  } catch {
    return undefined
  }
}
