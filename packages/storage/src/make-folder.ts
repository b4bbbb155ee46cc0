/** Makes folders. `mkdir` with `recursive` of Node.js never ends on a file system that answers ENOENT when it takes no folder, such as /proc. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StorageError } from './storage-error.ts'

/**
 * Makes the folder and the missing folders above it; existing ones stay as they are. Throws the error of the file system, or `denied` if it
 * takes no folder there.
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    const parent = dirname(folder)
    if (code !== 'ENOENT' || parent === folder) throw error
    await makeFolder(parent)
    await mkdir(folder).catch((again: NodeJS.ErrnoException) => {
      // Another process may have made it meanwhile.
      if (again.code === 'EEXIST') return
      if (again.code !== 'ENOENT') throw again
      throw new StorageError('denied', `Could not make the folder ${folder}: ${again.message}`, { cause: again })
    })
  }
}
