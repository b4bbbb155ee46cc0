/**
 * Runs a call inside a pipeline's `modelCpuOffloadContext`, which is entered before the call and left after it, however the call ends.
 * A context is an object with `enter()` and `exit()`, or a disposable (`Symbol.asyncDispose`, `Symbol.dispose`), or a function that returns
 * either; all may be asynchronous. Knows nothing about what the call does.
 */
import { classNameOf } from './clone-mutable.ts'

interface OffloadContext {
  enter?: () => unknown
  exit?: () => unknown
  [Symbol.asyncDispose]?: () => unknown
  [Symbol.dispose]?: () => unknown
}

export async function runInOffloadContext<T>(pipeline: object, call: () => Promise<T> | T): Promise<T> {
  const leave = await enterContext(pipeline)
  let result: T
  try {
    result = await call()
  } catch (error) {
    try {
      await leave()
    } catch (leaveError) {
      throw new SuppressedError(leaveError, error, `${(error as Error)?.message}; leaving modelCpuOffloadContext failed too`)
    }
    throw error
  }
  await leave()
  return result
}

async function enterContext(pipeline: object): Promise<() => unknown> {
  const offered: unknown = Reflect.get(pipeline, 'modelCpuOffloadContext')
  if (offered === undefined || offered === null) return () => undefined
  const context: unknown = isContext(offered) || typeof offered !== 'function' ? offered : await offered.call(pipeline)
  if (!isContext(context)) {
    throw new TypeError(`Expected modelCpuOffloadContext to be a context with enter and exit or a disposable, got ${classNameOf(context)}`)
  }
  await context.enter?.()
  return () => (context.exit ?? context[Symbol.asyncDispose] ?? context[Symbol.dispose])?.call(context)
}

function isContext(value: unknown): value is OffloadContext {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  const { enter, exit, [Symbol.asyncDispose]: asyncDispose, [Symbol.dispose]: dispose } = value as OffloadContext
  return (typeof enter === 'function' && typeof exit === 'function') || typeof (asyncDispose ?? dispose) === 'function'
}
