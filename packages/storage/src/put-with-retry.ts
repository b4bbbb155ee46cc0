/**
 * Owns the retry policy of uploads: how long a finished picture waits for a store that is down, slow or full before its job fails.
 *
 * Invariant: after a retryable error it goes on for at least `retryForMs`, then throws the store's last error unchanged; any other error
 * is thrown at once. The caller keeps its job lock meanwhile. Runs in the worker's main process.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { PutOptions, Storage } from './storage.ts'
import { StorageError } from './storage-error.ts'

const FIRST_DELAY_MS = 500
const MAX_DELAY_MS = 10_000
const DEFAULT_RETRY_FOR_MS = 120_000

export interface RetryOptions {
  /** Ends the attempt or the wait; the promise then rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined
  /** No attempt begun later than this after the first is followed by another, in ms, 0 and up; 0 tries once. Default: 120 000. */
  retryForMs?: number
  /** Called before each wait, to log and count. Default: nothing. */
  onRetry?: (retry: UploadRetry) => void
  /** Waits for so many ms, rejecting when the signal aborts. Default: a timer. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>
  /** A clock that never goes back, in ms. Default: `performance.now`. */
  now?: () => number
  /** Uniform in [0, 1). Default: `Math.random`. */
  random?: () => number
}

export interface UploadRetry {
  key: string
  error: StorageError
  /** How many attempts have failed, from 1. */
  attempt: number
  /** The wait before the next attempt, in ms. */
  delayMs: number
}

/** `storage.put` with waits of 0.5 s doubling to 10 s, each shortened by up to half so that many workers do not come back as one. */
export async function putWithRetry(
  storage: Storage,
  key: string,
  bytes: Uint8Array,
  options: Omit<PutOptions, 'signal'>,
  retry: RetryOptions = {},
): Promise<void> {
  const {
    signal,
    retryForMs = DEFAULT_RETRY_FOR_MS,
    onRetry,
    sleep = sleepFor,
    now = () => performance.now(),
    random = Math.random,
  } = retry
  const startedAtMs = now()
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted()
    const attemptedAtMs = now()
    try {
      return await storage.put(key, bytes, { ...options, signal })
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof StorageError) || !error.retryable) throw error
      if (attemptedAtMs - startedAtMs >= retryForMs) throw error
      const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), MAX_DELAY_MS) * (1 - random() / 2)
      onRetry?.({ key, error, attempt, delayMs })
      await sleep(delayMs, signal)
    }
  }
}

async function sleepFor(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal })
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}
