/**
 * Makes the folders that variables and arguments name. `mkdir` with `recursive` of Node.js never ends on a file system that answers ENOENT when
 * it takes no folder, such as /proc.
 */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes the folder and the missing folders above it; existing ones stay as they are. Throws the error of the file system, with the code EPERM
 * if that takes no folder there.
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
      throw Object.assign(new Error(`no folder can be made at ${folder}`, { cause: again }), { code: 'EPERM' })
    })
  }
}
