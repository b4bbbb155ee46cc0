/**
 * Finds out whether a Redis that answers can keep what Easel writes to it. One that evicts keys loses accepted jobs, a read-only replica
 * accepts none, and an old version does not know the commands. Runs in the api and in the worker's main process.
 */
import { Cluster } from 'ioredis'
import type { Redis } from 'ioredis'
import { type RedisConnection, waitUntilReady } from './redis.ts'

/** The first version that has every command used here and by BullMQ. */
const oldestVersion = [6, 2]
/** How long a start waits for Redis to answer. If Redis does not, the service starts anyway and waits for it. */
const patienceMs = 2000

export interface RedisFaultOptions {
  /** Whether a Redis that evicts keys is accepted anyway. */
  allowEvicting: boolean
}

/** What is wrong with the server, in a sentence that says what to change; undefined when nothing is. In a cluster every master is asked. */
export async function findRedisFault(redis: RedisConnection, options: RedisFaultOptions): Promise<string | undefined> {
  const nodes: Redis[] = redis instanceof Cluster ? redis.nodes('master') : [redis]
  const faults = await Promise.all(nodes.map(async (node) => judgeInfo(await node.info(), options)))
  return faults.find((fault) => fault !== undefined)
}

/** Rejects when Redis answers within a few seconds and has a fault. */
export async function refuseFaultyRedis(redis: RedisConnection, options: RedisFaultOptions): Promise<void> {
  const answers = await waitUntilReady(redis, patienceMs).then(
    () => true,
    () => false,
  )
  const fault = answers ? await findRedisFault(redis, options) : undefined
  if (fault !== undefined) throw new Error(fault)
}

/** `info`: the answer to INFO. */
export function judgeInfo(info: string, { allowEvicting }: RedisFaultOptions): string | undefined {
  const read = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
  const version = read('redis_version') ?? ''
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor = 0, oldestMinor = 0] = oldestVersion
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    return `Expected Redis ${oldestVersion.join('.')} or newer, or Valkey, got Redis ${version}`
  }
  if (read('role') === 'slave' && read('slave_read_only') !== '0') {
    return `Expected the Redis of REDIS_URL to be a master, got a read-only replica of ${read('master_host')}:${read('master_port')}: name the master, or the Sentinels in REDIS_SENTINELS`
  }
  const policy = read('maxmemory_policy') ?? 'noeviction'
  if (policy !== 'noeviction' && !allowEvicting) {
    return `Expected the Redis setting maxmemory-policy to be noeviction, because an evicted key is a lost job, got ${policy}: change it, or set ALLOW_EVICTING_REDIS=true to lose jobs when memory is full`
  }
  return undefined
}
