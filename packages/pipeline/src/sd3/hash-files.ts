/**
 * The sha256 of each of many files, on as many threads as the processor has and the largest file first. Knows nothing about models.
 */
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { hashFile, startHashThread } from './hash-file.ts'

/** With fewer bytes than this to hash, a thread costs more than it saves. */
const threadBytes = 2 ** 27

/** The hashes in hex, in the order of `paths`. */
export async function hashFiles(paths: readonly string[]): Promise<string[]> {
  const files = await Promise.all(paths.map(async (path, index) => ({ path, index, bytes: (await stat(path)).size })))
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0)
  const left = files.toSorted((a, b) => b.bytes - a.bytes)
  const hashes: string[] = []
  if (total < threadBytes) return paths.map(hashFile)
  await Promise.all(
    Array.from({ length: Math.min(availableParallelism(), files.length) }, async () => {
      const thread = startHashThread()
      try {
        for (let next = left.shift(); next !== undefined; next = left.shift()) {
          const answer = once(thread, 'message')
          thread.postMessage(next.path)
          hashes[next.index] = String((await answer)[0])
        }
      } finally {
        await thread.terminate()
      }
    }),
  )
  return hashes
}
