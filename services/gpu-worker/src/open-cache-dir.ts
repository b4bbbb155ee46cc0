/** Opens the folder in which engine processes keep what they have measured for their successors. Runs in the worker's main process. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { makeFolder } from '@easel/process/make-folder'

export interface CacheDir {
  /** Undefined if nothing can be written anywhere. */
  dir: string | undefined
  /** Removes the folder if it was only for the life of this process. */
  remove: () => Promise<void>
}

/** `named`: CACHE_DIR. If it is unset or cannot be created, the folder is a temporary one for the life of this process. */
export async function openCacheDir(named: string | undefined, logger: Logger): Promise<CacheDir> {
  if (named !== undefined) {
    try {
      await makeFolder(named)
      return { dir: named, remove: async () => {} }
    } catch (error) {
      logger.warn({ err: error }, 'CACHE_DIR cannot be used; measurements end with this process')
    }
  }
  try {
    const dir = await mkdtemp(join(tmpdir(), 'easel-worker-'))
    return { dir, remove: async () => await rm(dir, { recursive: true, force: true }) }
  } catch {
    return { dir: undefined, remove: async () => {} }
  }
}
