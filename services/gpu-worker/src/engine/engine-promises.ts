/** Promises that callers of the engine wait for, and what they reject with. Runs in the worker's main process. */
import { EngineError } from './engine.ts'

/** A promise that may be rejected while nothing awaits it. */
export function newPromise<T>(): PromiseWithResolvers<T> {
  const made = Promise.withResolvers<T>()
  made.promise.catch(() => {})
  return made
}

/** Rejects with `canceled` when the signal comes first. */
export async function orCanceled<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const canceled = newPromise<never>()
  const cancel = (): void => canceled.reject(toCanceled())
  signal?.addEventListener('abort', cancel, { once: true })
  if (signal?.aborted === true) cancel()
  try {
    return await Promise.race([canceled.promise, promise])
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}

export function toClosed(): EngineError {
  return new EngineError('closed', 'The engine was closed')
}

export function toHungLoad(silentMs: number): EngineError {
  return new EngineError(
    'load_failed',
    `Expected the engine process to load the model, got no sign of work for ${silentMs / 1000} s: is it on a disk or a mount that does not answer?`,
  )
}

export function toCanceled(): EngineError {
  return new EngineError('canceled', 'The call was canceled before it began')
}
