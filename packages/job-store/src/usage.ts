/**
 * How much of the device owners have used and how much they keep stored. The transitions of jobs (`transitions.ts`) and the input store
 * (`input-store.ts`) count it; this module reads it. Runs in the api.
 */
import { createKeys } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

export interface UsageCounts {
  /** The device time of all steps, in milliseconds. */
  gpuMs: number
  /** The number of jobs that ended. */
  jobs: number
  pictures: number
  /** Bytes of pictures in the store. */
  bytes: number
}

export interface OwnerUsage {
  /** The jobs that have ended since midnight UTC. */
  today: UsageCounts
  /** The jobs whose records are kept. */
  kept: UsageCounts
  /** The stored input pictures that uploads and jobs of the owner hold, each counted once. */
  inputs: { pictures: number; bytes: number }
  /** The estimated device time of the jobs that wait, in milliseconds. */
  queuedMs: number
}

export interface Usage {
  read(owner: string): Promise<OwnerUsage>
  /** The owners who have used most: the device time used and waiting, in milliseconds, for each of them and summed for all others. */
  readTop(count: number): Promise<{ owners: { owner: string; gpuMs: number; queuedMs: number }[]; othersGpuMs: number }>
}

const dayMs = 86_400_000

export function createUsage({
  redis,
  prefix,
  now = Date.now,
}: {
  redis: RedisConnection
  prefix: string
  /** Clock, ms since the epoch. Default: Date.now. */
  now?: () => number
}): Usage {
  const keys = createKeys(prefix)
  return {
    async read(owner) {
      const [usage, today] = await Promise.all([
        redis.hgetall(keys.usage(owner)),
        redis.hgetall(keys.usageOfDay(owner, Math.floor(now() / dayMs))),
      ])
      const inputs = { pictures: Number(usage['inputs'] ?? 0), bytes: Number(usage['input_bytes'] ?? 0) }
      return { today: toCounts(today, ''), kept: toCounts(usage, 'kept_'), inputs, queuedMs: Number(usage['queued_ms'] ?? 0) }
    },

    async readTop(count) {
      const all = toPairs(await redis.zrange(keys.usageOwners, '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, mostOwners, 'WITHSCORES'))
      const top = all.slice(0, count)
      const queued = await Promise.all(top.map(([owner]) => redis.hget(keys.usage(owner), 'queued_ms')))
      return {
        owners: top.map(([owner, gpuMs], i) => ({ owner, gpuMs, queuedMs: Number(queued[i] ?? 0) })),
        othersGpuMs: all.slice(count).reduce((sum, [, gpuMs]) => sum + gpuMs, 0),
      }
    },
  }
}

/** How many owners are summed at most; there are as many as API keys ever had names. */
const mostOwners = 10_000

function toCounts(hash: Record<string, string>, before: string): UsageCounts {
  const count = (name: string): number => Math.max(0, Number(hash[before + name] ?? 0))
  return { gpuMs: count('gpu_ms'), jobs: count('jobs'), pictures: count('pictures'), bytes: count('bytes') }
}

/** Members and scores in turn. */
function toPairs(list: readonly string[]): [string, number][] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i] ?? '', Number(list[2 * i + 1])])
}
