/**
 * Removes what is past its retention time: the pictures of a job, then every trace of it in Redis except webhook messages that still wait and
 * their attempts so far. The order matters: if the store does not answer, the record stays and the next sweep tries again. Runs in the api.
 */
import { toImageKeys } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'
import { releaseInputs } from '../inputs/hold-inputs.ts'
import { keepMessages } from '../webhooks/keep-messages.ts'
import type { KeepMessagesNeeds } from '../webhooks/keep-messages.ts'

export type SweepExpiredNeeds = KeepMessagesNeeds & Pick<AppDeps, 'inputs' | 'logger' | 'store'>

const pageSize = 200

/** Returns how many jobs it removed. */
export async function sweepExpired(deps: SweepExpiredNeeds): Promise<number> {
  const { config, logger, now, storage, store } = deps
  if (config.resultTtlSeconds === 0) return 0
  const before = now() - config.resultTtlSeconds * 1000
  let swept = 0
  for (;;) {
    const ids = await store.listEndedBefore(before, pageSize)
    const records = new Map((await store.getMany(ids)).map((record) => [record.id, record]))
    const failures = await storage.deleteMany([...records.values()].flatMap(toImageKeys))
    const remove = async (id: string): Promise<boolean> => {
      const record = records.get(id)
      try {
        for (const key of record === undefined ? [] : toImageKeys(record)) {
          const failure = failures.get(key)
          if (failure !== undefined) throw failure
        }
        const keepAttempts = record !== undefined && (await keepMessages(deps, record))
        if (record !== undefined) await releaseInputs(deps, record)
        await store.delete(id, { keepAttempts })
        return true
      } catch (error) {
        const line = { err: error, jobId: id, requestId: record?.requestId }
        logger.warn(line, 'a job past its retention could not be removed; the next sweep tries again')
        return false
      }
    }
    const removed = (await Promise.all(ids.map(remove))).filter(Boolean).length
    swept += removed
    // Jobs whose removal failed would be listed first again.
    if (ids.length < pageSize || removed < ids.length) return swept
  }
}
