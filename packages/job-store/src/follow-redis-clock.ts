/**
 * The clock that all processes of one Easel share: that of Redis. Processes compare instants that others have written (when a job expires,
 * whether a worker is alive, what is past its retention), and the clocks of their machines may differ and jump.
 *
 * Invariant: reading it never waits. It is the monotonic clock of this process plus its difference from Redis, which is measured whenever the
 * connection is ready and every few seconds, until the connection ends. The difference is kept as long as the measurements agree with it, so
 * that the clock does not jitter. Until the first answer, and if the Redis user may not call TIME, it is the clock of the machine. Runs in the
 * api and in the worker's main process.
 */
import { createKeys } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

export interface FollowRedisClockOptions {
  redis: RedisConnection
  /** The first part of every key; in a cluster, the node that holds these keys is asked. */
  prefix: string
  /** Called when the difference has changed by more than a second, with its new value in ms: above 0 if this process is behind. */
  onSkew: (skewMs: number) => void
  /** Called once when Redis refuses TIME. */
  onRefusal: (error: Error) => void
  /** The clock of this process, ms since the epoch. Default: the machine's clock when the process began, plus the time since. */
  localNow?: (() => number) | undefined
}

const measureEveryMs = 10_000
/** A larger change is reported, in ms. */
const reportedChangeMs = 1000

/** How different versions of Redis word the refusal. */
const noPermission = /permission|can't run this command/i

const steadyNow = (): number => performance.timeOrigin + performance.now()

/** Returns the clock: ms since the epoch, whole numbers. */
export function followRedisClock({ redis, prefix, onSkew, onRefusal, localNow = steadyNow }: FollowRedisClockOptions): () => number {
  // A script, because a cluster would send a command without a key to any of its nodes.
  redis.defineCommand('easelTime', { numberOfKeys: 1, lua: `return redis.call('TIME')` })
  const commands = redis as unknown as { easelTime: (key: string) => Promise<[seconds: string, microseconds: string]> }
  const key = createKeys(prefix).counters
  let [skewMs, reportedMs] = [0, 0]
  let isRefused = false

  async function measure(): Promise<void> {
    const askedAt = localNow()
    const [seconds, microseconds] = await commands.easelTime(key)
    const answeredAt = localNow()
    const measuredMs = Number(seconds) * 1000 + Number(microseconds) / 1000 - (askedAt + answeredAt) / 2
    // Redis read its clock at some moment between the two instants.
    if (Math.abs(measuredMs - skewMs) > (answeredAt - askedAt) / 2 + 1) skewMs = Math.round(measuredMs)
    if (Math.abs(skewMs - reportedMs) <= reportedChangeMs) return
    reportedMs = skewMs
    onSkew(skewMs)
  }

  const follow = (): void =>
    void measure().catch((error: unknown) => {
      // Without an answer nothing changes; the outage of Redis is reported elsewhere.
      if (isRefused || !(error instanceof Error) || !noPermission.test(error.message)) return
      isRefused = true
      onRefusal(error)
    })
  redis.on('ready', follow)
  const timer = setInterval(follow, measureEveryMs).unref()
  redis.once('end', () => clearInterval(timer))
  return () => Math.floor(localNow() + skewMs)
}
