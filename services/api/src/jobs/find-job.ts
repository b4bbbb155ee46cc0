/** Reads the record of a job for its owner, and distinguishes a job that never existed from one that is no longer kept. */
import { ProblemError, isJobId, jobIdCreatedAt } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { isPastRetention } from '../past-retention.ts'

export type FindNeeds = Pick<AppDeps, 'apiKeys' | 'config' | 'now' | 'store'>

/** Throws `not_found` or `expired`. A job of another owner counts as not found. */
export async function findJob(deps: FindNeeds, id: string, owner: string): Promise<JobRecord> {
  const record = isJobId(id) ? await deps.store.get(id) : undefined
  if (record === undefined) throw missingJob(deps, id)
  if (record.owner !== owner && !deps.apiKeys.isFormerly(record.owner, owner)) throw new ProblemError('not_found', 'There is no such job.')
  // The sweep removes records some time after their retention ends, but to clients they expire on time.
  if (record.completedAt !== undefined && isPastRetention(deps, record.completedAt)) throw new ProblemError('expired')
  return record
}

/** The error for a job without a record. The instant in its id shows whether it may have existed. */
export function missingJob(deps: Pick<AppDeps, 'config' | 'now'>, id: string): ProblemError {
  if (isJobId(id) && isPastRetention(deps, jobIdCreatedAt(id))) return new ProblemError('expired')
  return new ProblemError('not_found', 'There is no such job.')
}
