/**
 * The clock that all processes of one Easel share: that of Redis. Instants are compared between processes (when a job expires, whether a worker
 * is alive, what is past its retention), so the clocks of their machines, which differ and jump, must not decide.
 *
 * Invariant: reading it never waits. It is the steady clock of this process plus its difference from Redis, which is measured whenever the
 * connection is ready and every few seconds, until the connection ends. The difference stays as it is for as long as it can be the true one, so
 * the clock does not jump to and fro. Until the first answer, and with a Redis user who may not ask for the time, it is the clock of the
 * machine. Runs in the api and in the worker's main process.
 */
import { createKeys } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

export interface FollowRedisClockOptions {
  redis: RedisConnection
  /** The first part of every key: of a cluster, the node that has them is asked. */
  prefix: string
  /** Called when the difference has changed by more than a second, with the whole of it in ms: above 0 where this process is behind. */
  onSkew: (skewMs: number) => void
  /** Called once when Redis refuses to tell the time. */
  onRefusal: (error: Error) => void
  /** The clock of this process, ms since the epoch. Default: its machine's clock when it began, and what has passed since. */
  localNow?: (() => number) | undefined
}

const measureEveryMs = 10_000
/** A larger change is reported, in ms. */
const reportedChangeMs = 1000

/** As different versions of Redis say it. */
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
    // Redis looked at its clock at some moment between the two.
    if (Math.abs(measuredMs - skewMs) > (answeredAt - askedAt) / 2 + 1) skewMs = Math.round(measuredMs)
    if (Math.abs(skewMs - reportedMs) <= reportedChangeMs) return
    reportedMs = skewMs
    onSkew(skewMs)
  }

  const follow = (): void =>
    void measure().catch((error: unknown) => {
      // Without an answer nothing changes; others report that Redis is away.
      if (isRefused || !(error instanceof Error) || !noPermission.test(error.message)) return
      isRefused = true
      onRefusal(error)
    })
  redis.on('ready', follow)
  const timer = setInterval(follow, measureEveryMs).unref()
  redis.once('end', () => clearInterval(timer))
  return () => Math.floor(localNow() + skewMs)
}
