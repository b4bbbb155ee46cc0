/**
 * One hash for what a model folder computes, so that two workers can tell whether they have the same model.
 *
 * Invariant: depends on the names and bytes of graphs, weights, configurations and vocabularies, and on nothing else: not on where the
 * folder is, the order of its entries, or a changed README. Reads every weight, so it takes seconds per gigabyte.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'

const CONTENT = /(\.onnx|[._]data|\.json|\.txt|\.model)$/

/** Hex sha256 over the sorted lines `path sha256`. */
export async function hashModelFolder(folder: string): Promise<string> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  const files = entries
    // Weights are often links into a cache; what counts is what they point to.
    .filter((entry) => !entry.isDirectory() && CONTENT.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(
      (file) =>
        !relative(folder, file)
          .split(sep)
          .some((part) => part.startsWith('.')),
    )
  const names = new Map(files.map((file) => [relative(folder, file).split(sep).join('/'), file]))
  const total = createHash('sha256')
  for (const name of [...names.keys()].sort()) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(names.get(name) as string), hash)
    total.update(`${name} ${hash.digest('hex')}\n`)
  }
  return total.digest('hex')
}
