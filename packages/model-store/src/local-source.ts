/** A folder or a single file on this machine as a source of files. Knows nothing about which files matter. */
import { createReadStream } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import type { ModelSource, SourceFile } from './model-source.ts'

/** `path` is absolute. A file is treated as a folder that contains only that file. */
export async function openLocalModel(path: string): Promise<ModelSource> {
  const isFile = (await stat(path)).isFile()
  const root = isFile ? dirname(path) : path
  return {
    name: path,
    origin: path,
    async list() {
      const paths = isFile ? [path] : await listFolder(path)
      return await Promise.all(
        paths.map(async (file): Promise<SourceFile> => ({ path: toSourcePath(root, file), size: (await stat(file)).size })),
      )
    },
    read: (file) => readFile(join(root, file)),
    open: async (file, offset, signal) => ({ offset, bytes: createReadStream(join(root, file.path), { start: offset, signal }) }),
    findLocalCopy: async (file) => ({ path: await realpath(join(root, file.path)), isConstant: false }),
  }
}

export function toSourcePath(root: string, file: string): string {
  return relative(root, file).split(sep).join('/')
}

/**
 * The files in a folder and below it. Links are followed, because the hub's cache consists of links; a dangling link, or one to a folder above
 * it, is skipped. `above`: the real paths of the folders above.
 */
export async function listFolder(folder: string, above: readonly string[] = []): Promise<string[]> {
  const real = await realpath(folder)
  if (above.includes(real)) return []
  const names = (await readdir(folder)).filter((name) => !name.startsWith('.'))
  const lists = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name)
      const found = await stat(path).catch(() => undefined)
      if (found?.isDirectory() === true) return await listFolder(path, [...above, real])
      return found?.isFile() === true ? [path] : []
    }),
  )
  return lists.flat()
}
