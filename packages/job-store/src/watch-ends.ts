/** A job store that reports which ends were claimed through it, and so by this process. Runs in the api and in the worker. */
import type { EndStatus, JobErrorCode } from '@easel/contract'
import type { JobStore } from './job-store.ts'

/** `code`: the error code of a failure. */
export type OnEnd = (status: EndStatus, code?: JobErrorCode) => void

export function watchEnds(store: JobStore, onEnd: OnEnd): JobStore {
  return {
    ...store,
    async start(id, workerId) {
      const started = await store.start(id, workerId)
      if (started.result === 'canceled') onEnd('canceled')
      if (started.result === 'expired') onEnd('failed', 'expired')
      return started
    },
    async end(id, end) {
      const result = await store.end(id, end)
      if (result.result === 'claimed') onEnd(result.status, result.status === 'failed' ? end.error?.code : undefined)
      return result
    },
    async requestCancel(id) {
      const result = await store.requestCancel(id)
      if (result === 'canceled') onEnd('canceled')
      return result
    },
    async expire(id, why) {
      const expired = await store.expire(id, why)
      if (expired) onEnd('failed', 'expired')
      return expired
    },
  }
}
