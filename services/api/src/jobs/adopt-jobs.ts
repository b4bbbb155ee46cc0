/**
 * Gives jobs that belong to the hash of a key to the key's present name: jobs made by an Easel in which names were not owners, and jobs made
 * before the key had a name. Every replica does this for its own keys, which may differ during a rolling update. Runs in the api.
 */
import { createJobStore } from '@easel/job-store'
import type { RedisConnection } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

/** The time between two rounds in milliseconds. An api of an earlier version may keep making such jobs for a while. */
const everyMs = 60_000

/** `connection` must wait for Redis. Returns a function that ends it. */
export function startAdopting(
  { apiKeys, config, logger, outage }: Pick<AppDeps, 'apiKeys' | 'config' | 'logger' | 'outage'>,
  connection: RedisConnection,
): () => void {
  const store = createJobStore({ redis: connection, prefix: config.queuePrefix })
  const adopt = async (): Promise<void> => {
    for (const { formerOwner, owner } of apiKeys.keys) {
      const jobs = formerOwner === owner ? 0 : await store.adopt(formerOwner, owner)
      if (jobs > 0) logger.info({ jobs, owner }, 'jobs made with a key before it had a name now belong to its name')
    }
  }
  const look = (): void => {
    adopt().catch((error: unknown) =>
      outage.report(error, 'jobs made with a key before it had a name could not be moved to its name; tried again later'),
    )
  }
  look()
  const timer = setInterval(look, everyMs)
  return () => clearInterval(timer)
}
