/** Examines the store of pictures as the services would use it, by writing an object and removing it again. */
import { z } from 'zod'
import { readVariables } from '@easel/process'
import { checkStorageVariables, createStorage, storageVariables, toStorageOptions } from '@easel/storage'
import { type Finding, toFailure } from './finding.ts'

const subject = 'storage'
const schema = z.object(storageVariables).superRefine(checkStorageVariables, { when: () => true })

export async function examineStorage(env: NodeJS.ProcessEnv): Promise<Finding[]> {
  try {
    const options = toStorageOptions(readVariables(schema, env))
    const storage = createStorage(options)
    try {
      const startedAt = performance.now()
      await storage.check()
      return [{ subject, state: 'ok', says: `an object was written and removed in ${Math.round(performance.now() - startedAt)} ms` }]
    } finally {
      await storage.close()
    }
  } catch (error) {
    return [toFailure(subject, error)]
  }
}
