/** Removes many objects with one call each, several at a time, for stores that have no call for many. Knows nothing about any store. */
import { StorageError } from './storage-error.ts'

/** How many calls are under way at once. */
const width = 32

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
  await Promise.all(Array.from({ length: width }, work))
  return failures
}
