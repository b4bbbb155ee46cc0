/**
 * Gives jobs that belong to the hash of a key to the name that the key has by now: those of an Easel that knew no names as owners, and those
 * made before the key had a name. Every replica does it for the keys it has: while one is replaced by another they have different ones. Runs
 * in the api.
 */
import { createJobStore } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

/** Milliseconds between two looks: an api of the time before may go on making such jobs for a while. */
const everyMs = 60_000

/** `connection`: one that waits for Redis. Returns what ends it. */
export function startAdopting(
  { apiKeys, config, logger, outage }: Pick<AppDeps, 'apiKeys' | 'config' | 'logger' | 'outage'>,
  connection: RedisConnection,
): () => void {
  const store = createJobStore({ redis: connection, prefix: config.queuePrefix })
  const adopt = async (): Promise<void> => {
    for (const { formerOwner, owner } of apiKeys.keys) {
      const jobs = formerOwner === owner ? 0 : await store.adopt(formerOwner, owner)
      if (jobs > 0) logger.info({ jobs, owner }, 'jobs made with a key before it had a name are found under its name')
    }
  }
  const look = (): void => {
    adopt().catch((error: unknown) => outage.report(error, 'jobs made with a key before it had a name are looked for again'))
  }
  look()
  const timer = setInterval(look, everyMs)
  return () => clearInterval(timer)
}
