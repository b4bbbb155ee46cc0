/**
 * One hash for what a model folder computes, so that two workers can tell whether they have the same model.
 *
 * Invariant: depends on the names and bytes of graphs, weights, configurations and vocabularies, and on nothing else: not on where the
 * folder is, the order of its entries, or a changed README. Reads every weight, which takes seconds per gigabyte; a result kept on disk is
 * taken for files of the same names, sizes and times of change.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, realpath, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'

const CONTENT = /(\.onnx|[._]data|\.json|\.txt|\.model)$/

/** Hex sha256 over the sorted lines `path sha256`. `cacheDir`: folder in which it outlives the process; default: nowhere. */
export async function hashModelFolder(folder: string, cacheDir?: string): Promise<string> {
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
  if (cacheDir === undefined) return await hashFiles(names)
  const kept = join(cacheDir, `model-hash-${await fingerprint(folder, names)}`)
  const found = await readFile(kept, 'utf8').catch(() => '')
  if (/^[0-9a-f]{64}$/.test(found)) return found
  const hash = await hashFiles(names)
  await keep(kept, hash).catch(() => {
    // A folder that cannot be written only means to read the weights again.
  })
  return hash
}

async function hashFiles(names: ReadonlyMap<string, string>): Promise<string> {
  const total = createHash('sha256')
  for (const name of [...names.keys()].sort()) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(names.get(name) as string), hash)
    total.update(`${name} ${hash.digest('hex')}\n`)
  }
  return total.digest('hex')
}

/** Of everything that is known of the files without reading them. */
async function fingerprint(folder: string, names: ReadonlyMap<string, string>): Promise<string> {
  const lines = [...names].map(async ([name, file]) => {
    const { size, mtimeMs, ino } = await stat(file)
    return `${name} ${size} ${mtimeMs} ${ino}`
  })
  const text = [await realpath(folder), ...(await Promise.all(lines)).sort()].join('\n')
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

async function keep(file: string, hash: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  const draft = `${file}.${process.pid}`
  await writeFile(draft, hash)
  await rename(draft, file)
}
