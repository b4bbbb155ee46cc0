/**
 * Owns what all ways to start an S3 server for tests have in common: the handle that tests get, and the wait for an answer.
 */
import { setTimeout as delay } from 'node:timers/promises'

const answerTimeoutMs = 60_000

export interface S3ServerOptions {
  /** Folder for the data of a versitygw process, never deleted. Default: a temporary one, deleted by `stop()`. Containers ignore it. */
  dir?: string
}

export interface S3Server {
  /** `http://127.0.0.1:PORT`; the same after `restart()`. */
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** What runs: `given`, `container` or `process`. A given server cannot be stopped: `kill`, `restart`, `pause`, `resume` throw. */
  readonly source: 'given' | 'container' | 'process'
  /** Ends the server and deletes its data. May be called twice. A given server keeps running. */
  stop(): Promise<void>
  /** Ends the server immediately, as in a crash; connections are refused until `restart()`. */
  kill(): Promise<void>
  /** Starts again on the same port and data; resolves when it answers. */
  restart(): Promise<void>
  /** Freezes the server: connections stay open, but nothing answers. */
  pause(): Promise<void>
  /** Ends `pause()`. */
  resume(): Promise<void>
}

export interface NoS3Server {
  /** Why there is no server, and what would help. */
  skipped: string
}

/**
 * Resolves when something speaks HTTP at `endpoint`; an S3 server answers a request without a signature with 403. Throws when `hasEnded` says
 * that it makes no sense to wait.
 */
export async function waitForAnswer(endpoint: string, hasEnded: () => string | undefined): Promise<void> {
  const deadline = performance.now() + answerTimeoutMs
  for (;;) {
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(2_000) })
      await answer.body?.cancel()
      return
    } catch (error) {
      const end = hasEnded()
      if (end !== undefined) throw new Error(`Expected the S3 server to answer at ${endpoint}, got its end: ${end}`, { cause: error })
      if (performance.now() > deadline)
        throw new Error(`Expected the S3 server to answer at ${endpoint} within ${answerTimeoutMs} ms`, { cause: error })
      await delay(50)
    }
  }
}
