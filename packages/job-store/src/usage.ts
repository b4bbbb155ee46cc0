/**
 * How much of the device owners have used and how much they keep stored. The transitions of jobs (`transitions.ts`) and the input store
 * (`input-store.ts`) count it; this module reads it. Runs in the api.
 */
import { createKeys } from '@easel/contract'
import type { StoreOptions } from './store-options.ts'
import { toPairs } from './to-pairs.ts'

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

/** How an owner stands among the others. */
export interface OwnerStanding {
  owner: string
  running: number
  waiting: number
  /** Estimated milliseconds of the device of its waiting jobs. */
  queuedMs: number
  /** Milliseconds of the device that its jobs have had: those that ended since midnight UTC, and all. */
  todayMs: number
  gpuMs: number
}

export interface Usage {
  read(owner: string): Promise<OwnerUsage>
  /** The owners who have used most: the device time used and waiting, in milliseconds, for each of them and summed for all others. */
  readTop(count: number): Promise<{ owners: { owner: string; gpuMs: number; queuedMs: number }[]; othersGpuMs: number }>
  /**
   * First the owners who have jobs of these models waiting, in the order of their turns, then those who have used most; at most `count` for each
   * model, `count` of the latter, and twice `count` in all. Also what the others have used together.
   */
  readStandings(modelIds: readonly string[], count: number): Promise<{ owners: OwnerStanding[]; othersGpuMs: number }>
}

const dayMs = 86_400_000

export function createUsage({ redis, prefix, now = Date.now }: StoreOptions): Usage {
  const keys = createKeys(prefix)
  const today = (): number => Math.floor(now() / dayMs)
  const readStanding = async (owner: string): Promise<OwnerStanding> => {
    const [running, waiting, queuedMs, todayMs, gpuMs] = await Promise.all([
      redis.zcard(keys.index(owner, 'running')),
      redis.zcard(keys.index(owner, 'queued')),
      redis.hget(keys.usage(owner), 'queued_ms'),
      redis.hget(keys.usageOfDay(owner, today()), 'gpu_ms'),
      redis.zscore(keys.usageOwners, owner),
    ])
    return { owner, running, waiting, queuedMs: Number(queuedMs ?? 0), todayMs: Number(todayMs ?? 0), gpuMs: Number(gpuMs ?? 0) }
  }
  return {
    async read(owner) {
      const [usage, ofDay] = await Promise.all([redis.hgetall(keys.usage(owner)), redis.hgetall(keys.usageOfDay(owner, today()))])
      const inputs = { pictures: Number(usage['inputs'] ?? 0), bytes: Number(usage['input_bytes'] ?? 0) }
      return { today: toCounts(ofDay, ''), kept: toCounts(usage, 'kept_'), inputs, queuedMs: Number(usage['queued_ms'] ?? 0) }
    },

    async readTop(count) {
      const members = await redis.zrange(keys.usageOwners, '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, mostOwners, 'WITHSCORES')
      const all = toPairs(members).map(([owner, gpuMs]): [string, number] => [owner, Number(gpuMs)])
      const top = all.slice(0, count)
      const queued = await Promise.all(top.map(([owner]) => redis.hget(keys.usage(owner), 'queued_ms')))
      return {
        owners: top.map(([owner, gpuMs], i) => ({ owner, gpuMs, queuedMs: Number(queued[i] ?? 0) })),
        othersGpuMs: all.slice(count).reduce((sum, [, gpuMs]) => sum + gpuMs, 0),
      }
    },

    async readStandings(modelIds, count) {
      const [top, ...turns] = await Promise.all([
        this.readTop(count),
        ...modelIds.map((id) => redis.zrange(keys.shareOwners(id), 0, String(count - 1))),
      ])
      const owners = [...new Set([...turns.flat(), ...top.owners.map(({ owner }) => owner)])].slice(0, 2 * count)
      const standings = await Promise.all(owners.map(async (owner) => await readStanding(owner)))
      // An owner with waiting jobs need not be one of the top owners.
      const isTop = new Set(top.owners.map(({ owner }) => owner))
      const listedOthers = standings.filter(({ owner }) => !isTop.has(owner))
      return { owners: standings, othersGpuMs: listedOthers.reduce((left, { gpuMs }) => left - gpuMs, top.othersGpuMs) }
    },
  }
}

/** How many owners are summed at most; there are as many as API keys ever had names. */
const mostOwners = 10_000

function toCounts(hash: Record<string, string>, before: string): UsageCounts {
  const count = (name: string): number => Math.max(0, Number(hash[before + name] ?? 0))
  return { gpuMs: count('gpu_ms'), jobs: count('jobs'), pictures: count('pictures'), bytes: count('bytes') }
}
