/** A folder or a single file of this machine as a source of files. Knows nothing about which files matter. */
import { createReadStream } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import type { ModelSource, SourceFile } from './model-source.ts'

/** `path`: absolute. A file is a folder with that one file in it. */
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

/** Files of a folder and those below it, links followed: the hub's cache is made of links. */
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
