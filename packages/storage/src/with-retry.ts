/**
 * Owns the retry policy of jobs: how long writing a finished picture, or reading an input picture, waits for a store that is down, slow or full
 * before the job fails.
 *
 * Invariant: after a retryable error it continues for at least `retryForMs` and then throws the store's last error unchanged; any other
 * error is thrown at once. The caller keeps its job lock in the meantime. Runs in the worker's main process.
 */
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type { PutOptions, Storage } from './storage.ts'
import { StorageError } from './storage-error.ts'

const firstDelayMs = 500
const maxDelayMs = 10_000
const defaultRetryForMs = 120_000

export interface RetryOptions {
  /** Ends the attempt or the wait; the promise then rejects with the signal's reason. Default: none. */
  signal?: AbortSignal | undefined
  /** An attempt that begins later than this after the first one is the last, in ms, from 0; 0 tries once. Default 120 000. */
  retryForMs?: number
  /** Called before each wait, for logs and counters. Default none. */
  onRetry?: (retry: UploadRetry) => void
  /** Waits this many ms, rejecting when the signal aborts. Default: a timer. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>
  /** A monotonic clock in ms. Default: `performance.now`. */
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

/** `storage.put` with retries. */
export async function putWithRetry(
  storage: Storage,
  key: string,
  bytes: Uint8Array,
  options: Omit<PutOptions, 'signal'>,
  retry: RetryOptions = {},
): Promise<void> {
  await withRetry(key, () => storage.put(key, bytes, { ...options, signal: retry.signal }), retry)
}

/** All bytes of an object, or undefined when there is none; retries failures both on opening and in the middle. */
export async function readWithRetry(storage: Storage, key: string, retry: RetryOptions = {}): Promise<Buffer | undefined> {
  return await withRetry(
    key,
    async () => {
      const object = await storage.open(key)
      return object === undefined ? undefined : await buffer(object.body)
    },
    retry,
  )
}

/** Waits of 0.5 s doubling to 10 s, each shortened by up to half so that many workers do not return at the same moment. */
async function withRetry<T>(key: string, attemptOnce: () => Promise<T>, retry: RetryOptions): Promise<T> {
  const { signal, retryForMs = defaultRetryForMs, onRetry, sleep = sleepFor, now = () => performance.now(), random = Math.random } = retry
  const startedAtMs = now()
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted()
    const attemptedAtMs = now()
    try {
      return await attemptOnce()
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof StorageError) || !error.retryable) throw error
      if (attemptedAtMs - startedAtMs >= retryForMs) throw error
      const delayMs = Math.min(firstDelayMs * 2 ** (attempt - 1), maxDelayMs) * (1 - random() / 2)
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
