/** How housekeeping looks through all jobs with one status, however many there are. Runs in the api. */
import type { JobStatus } from '@easel/contract'
import type { JobStore } from '@easel/job-store'

const pageSize = 500

/** The ids of the jobs that were created before the instant (ms), a page at a time, oldest first. */
export async function* pagesOfJobs(
  store: Pick<JobStore, 'listCreatedBefore'>,
  status: JobStatus,
  instantMs: number,
): AsyncGenerator<string[]> {
  let after: string | undefined
  for (;;) {
    const ids = await store.listCreatedBefore(status, instantMs, { limit: pageSize, after })
    yield ids
    if (ids.length < pageSize) return
    after = ids.at(-1)
  }
}
