/** Owns small in-memory file systems, for tests of full and read-only disks. */
import { execFile } from 'node:child_process'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'

const run = promisify(execFile)

export const noTmpfs = 'a tmpfs cannot be mounted here (needs root and the right to mount)'

/** Mounts a tmpfs with mount options such as `size=1m,ro` until the test ends. Undefined where mounting is not allowed. */
export async function mountTmpfs(options: string): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-disk-'))
  let mounted = false
  onTestFinished(async () => {
    if (mounted) await run('umount', ['--lazy', folder])
    await rmdir(folder)
  })
  try {
    await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder])
    mounted = true
    return folder
  } catch {
    return undefined
  }
}
