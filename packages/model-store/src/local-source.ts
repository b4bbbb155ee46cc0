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

/** The files in a folder and below it. Links are followed, because the hub's cache consists of links. */
export async function listFolder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const lists = await Promise.all(
    entries
      .filter(({ name }) => !name.startsWith('.'))
      .map(async (entry) => {
        const path = join(folder, entry.name)
        const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await stat(path)).isDirectory())
        return isFolder ? await listFolder(path) : [path]
      }),
  )
  return lists.flat()
}
