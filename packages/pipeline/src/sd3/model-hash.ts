/**
 * One hash for what a model folder computes, by which two workers can tell whether they have the same model.
 *
 * Invariant: depends on the names and bytes of graphs, weights, configurations and vocabularies and on nothing else, such as the folder's
 * place, the order of its entries, or a README. Reads every weight, unless a result kept on disk belongs to files with the same names, sizes
 * and times of change.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeCacheFile } from '../runtime/write-cache-file.ts'
import { hashFiles } from './hash-files.ts'

const contentFile = /(\.onnx|[._]data|\.pb|\.safetensors|\.json|\.txt|\.model)$/

/**
 * Hex sha256 over the sorted lines `path sha256` and over the content's marks. `cacheDir`: the folder in which the hash outlives the process;
 * by default it is not kept.
 */
export async function hashModel(content: ModelContent, cacheDir?: string): Promise<string> {
  const names = await listFiles(content)
  if (cacheDir === undefined) return await hashContent(names, content.marks)
  const kept = join(cacheDir, `model-hash-${await fingerprint(names, content.marks)}`)
  const found = await readFile(kept, 'utf8').catch(() => '')
  if (/^[0-9a-f]{64}$/.test(found)) return found
  const hash = await hashContent(names, content.marks)
  await writeCacheFile(kept, hash).catch(() => {
    // A folder that cannot be written only means reading the weights again.
  })
  return hash
}

export interface ModelContent {
  /** Files and folders by their name in the model; '' is the model's own folder. */
  readonly roots: ReadonlyMap<string, string>
  /** Choices that make a different model out of the same files, such as 'without text_encoder_3'. */
  readonly marks: readonly string[]
}

/** The size of each of these files in bytes, by name. Reads none of them. */
export async function listFileSizes(content: ModelContent): Promise<Record<string, number>> {
  const sizes: Record<string, number> = {}
  for (const [name, file] of await listFiles(content)) sizes[name] = (await stat(file)).size
  return sizes
}

/** The files that decide a picture, by their name in the model. Links are followed, because weights are often links into a cache. */
async function listFiles({ roots }: ModelContent): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  /** `above`: the real paths of the folders above, so that a link to one of them is not followed again. */
  const walk = async (at: string, prefix: string, above: readonly string[]): Promise<void> => {
    const real = await realpath(at)
    if (above.includes(real)) return
    for (const name of (await readdir(at)).sort()) {
      if (name.startsWith('.')) continue
      const path = join(at, name)
      // Everything that was loaded exists, so a dangling link belongs to something that is never read.
      const found = await stat(path).catch(() => undefined)
      if (found?.isDirectory() === true) await walk(path, `${prefix}${name}/`, [...above, real])
      else if (found?.isFile() === true && contentFile.test(name)) files.set(`${prefix}${name}`, path)
    }
  }
  for (const [name, path] of roots) {
    if ((await stat(path)).isDirectory()) await walk(path, name === '' ? '' : `${name}/`, [])
    else files.set(name, path)
  }
  return files
}

async function hashContent(files: ReadonlyMap<string, string>, marks: readonly string[]): Promise<string> {
  const names = [...files.keys()].sort()
  const hashes = await hashFiles(names.map((name) => files.get(name) as string))
  const total = createHash('sha256')
  for (const [index, name] of names.entries()) total.update(`${name} ${hashes[index]}\n`)
  for (const mark of marks) total.update(`${mark}\n`)
  return total.digest('hex')
}

/** A hash of everything that is known about the files without reading them. */
async function fingerprint(names: ReadonlyMap<string, string>, marks: readonly string[]): Promise<string> {
  const lines = [...names].map(async ([name, file]) => {
    const { size, mtimeMs, ino } = await stat(file)
    return `${name} ${await realpath(file)} ${size} ${mtimeMs} ${ino}`
  })
  const text = [...marks, ...(await Promise.all(lines)).sort()].join('\n')
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
