/** Removes many objects with a call for each, some at a time: for a store that has no call for many. Knows no store. */
import { StorageError } from './storage-error.ts'

/** Calls under way at once. */
const WIDTH = 32

/** Resolves with the error of each key that `remove` rejected with a `StorageError`; rejects with any other error. */
export async function deleteOneByOne(keys: readonly string[], remove: (key: string) => Promise<void>): Promise<Map<string, StorageError>> {
  const failures = new Map<string, StorageError>()
  const waiting = [...keys]
  const work = async (): Promise<void> => {
    for (let key = waiting.shift(); key !== undefined; key = waiting.shift()) {
      try {
        await remove(key)
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        failures.set(key, error)
      }
    }
  }
  await Promise.all(Array.from({ length: WIDTH }, work))
  return failures
}
