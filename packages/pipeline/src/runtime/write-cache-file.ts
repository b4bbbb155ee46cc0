/**
 * Writes a small file in the cache folder, which is created if it is missing. Other processes read the old text or the new one, never a part.
 * Rejects when the file cannot be written.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

export async function writeCacheFile(file: string, text: string): Promise<void> {
  // If there is no folder after this, the write reports it.
  await mkdir(dirname(file)).catch(() => {})
  const draft = `${file}.${process.pid}`
  await writeFile(draft, text)
  await rename(draft, file)
}
