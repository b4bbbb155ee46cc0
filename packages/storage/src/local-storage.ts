/**
 * Owns a folder of objects: key `images/a.png` is the file `DIR/images/a.png`, so the folder can be copied, mounted or served as it is.
 *
 * Invariant: a file under its final name is complete. Bytes are written to a temporary file in the same folder and flushed, and the file is
 * then renamed; a reader that has the old file open keeps reading the old bytes. The extension of the file gives its content type.
 * Knows nothing about URLs: the api serves these objects itself. Several processes may share the folder.
 */
import { randomUUID } from 'node:crypto'
import { open, opendir, rename, rm, stat, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { deleteOneByOne } from './delete-one-by-one.ts'
import { makeFolder } from './make-folder.ts'
import { assertContentType, assertKeyPrefix, assertObjectKey, isObjectKey, toContentType } from './object-key.ts'
import { toReadableBody } from './readable-body.ts'
import type { ListedObject, PutOptions, Storage, StoredObject } from './storage.ts'
import { StorageError, type StorageErrorCode } from './storage-error.ts'

export interface LocalStorageOptions {
  /** The folder, absolute or relative to the working directory; created if missing. It must lie on one file system. */
  dir: string
}

const temporaryPrefix = '.writing-'
/** A temporary file of this age belongs to no write that is still running: its process was killed. */
const abandonedAfterMs = 3_600_000
/** How many bytes `check` writes, because an empty file would fit on a full disk. */
const probeBytes = 4096

const codes: Record<string, StorageErrorCode> = {
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
  // There is a file where the folder should be, or the other way round.
  ENOTDIR: 'denied',
  EEXIST: 'denied',
  EISDIR: 'denied',
  ENOTEMPTY: 'denied',
  ENAMETOOLONG: 'invalid_key',
}
/** The object does not exist: there is no such file, a file where the key has a folder, or a folder with the key's name. */
const absent = new Set(['ENOENT', 'ENOTDIR', 'EISDIR'])

const cannotFlush = new Set(['EINVAL', 'ENOTSUP', 'ENOSYS'])

// oxlint-disable-next-line max-lines-per-function -- a list of short methods over what they share.
export function createLocalStorage(options: LocalStorageOptions): Storage {
  const root = resolve(options.dir)
  /** The folders that were written to, kept open for flushing. The keys of a service have one folder or two. */
  const folders = new Map<string, Promise<FileHandle>>()

  const toPath = (key: string): string => {
    assertObjectKey(key)
    return join(root, key)
  }

  const remove = async (key: string): Promise<void> => {
    const path = toPath(key)
    try {
      await unlink(path)
    } catch (error) {
      if (!absent.has(codeOf(error))) throw toStorageError(error, `delete ${key}`)
    }
  }

  return {
    kind: 'local',

    async put(key, bytes, { contentType, signal }: PutOptions) {
      const path = toPath(key)
      assertContentType(key, contentType)
      signal?.throwIfAborted()
      try {
        await writeAtomically(folders, path, bytes, signal)
      } catch (error) {
        signal?.throwIfAborted()
        throw toStorageError(error, `write ${key}`)
      }
    },

    async open(key): Promise<StoredObject | undefined> {
      const path = toPath(key)
      try {
        const file = await open(path, 'r')
        try {
          const stats = await file.stat()
          if (!stats.isFile()) {
            await file.close()
            return undefined
          }
          const bytes = Readable.toWeb(file.createReadStream()) as ReadableStream<Uint8Array>
          const body = toReadableBody(bytes, (error) => toStorageError(error, `read ${key}`))
          return { body, contentType: toContentType(key), size: stats.size, lastModified: stats.mtime }
        } catch (error) {
          await file.close()
          throw error
        }
      } catch (error) {
        if (absent.has(codeOf(error))) return undefined
        throw toStorageError(error, `read ${key}`)
      }
    },

    async stat(key) {
      const path = toPath(key)
      try {
        const stats = await stat(path)
        return stats.isFile() ? { contentType: toContentType(key), size: stats.size, lastModified: stats.mtime } : undefined
      } catch (error) {
        if (absent.has(codeOf(error))) return undefined
        throw toStorageError(error, `read ${key}`)
      }
    },

    async url(key) {
      assertObjectKey(key)
      return undefined
    },

    delete: remove,

    deleteMany: (keys) => deleteOneByOne(keys, remove),

    list(prefix) {
      assertKeyPrefix(prefix)
      const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
      return walk(root, folder, prefix)
    },

    async check() {
      const path = join(root, `.probe-${randomUUID()}`)
      try {
        await writeAtomically(folders, path, Buffer.alloc(probeBytes))
        await rm(path)
      } catch (error) {
        throw toStorageError(error, `write to the folder ${root}`)
      }
    },

    async close() {
      await Promise.all([...folders.keys()].map((folder) => closeFolder(folders, folder)))
    },
  }
}

type Folders = Map<string, Promise<FileHandle>>

async function writeAtomically(folders: Folders, path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
  const folder = dirname(path)
  const temporary = join(folder, `${temporaryPrefix}${randomUUID()}`)
  const file = await open(temporary, 'wx').catch(async (error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error
    await closeFolder(folders, folder)
    await makeFolder(folder)
    return await open(temporary, 'wx')
  })
  try {
    try {
      await file.writeFile(bytes, { signal })
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await flushFolder(folders, folder)
}

/** The new name is durable only when the folder is flushed too. Some network and desktop file systems cannot do that and need not. */
async function flushFolder(folders: Folders, folder: string): Promise<void> {
  const opening = folders.get(folder) ?? open(folder, 'r')
  folders.set(folder, opening)
  try {
    await (await opening).sync()
  } catch (error) {
    if (cannotFlush.has(codeOf(error))) return
    await closeFolder(folders, folder)
    throw error
  }
}

/** Drops the handle of a folder that no longer exists or cannot be opened, so that the folder that takes its place is flushed. */
async function closeFolder(folders: Folders, folder: string): Promise<void> {
  const opened = folders.get(folder)
  folders.delete(folder)
  await opened?.then(
    (handle) => handle.close(),
    () => {},
  )
}

/** The objects under `folder` (empty, or ending in a slash). Also removes what killed writers have left behind. */
async function* walk(root: string, folder: string, prefix: string): AsyncGenerator<ListedObject> {
  try {
    for await (const entry of await opendir(join(root, folder))) {
      const key = `${folder}${entry.name}`
      if (entry.name.startsWith(temporaryPrefix)) await removeAbandoned(join(root, key))
      else if (!isObjectKey(key)) continue
      else if (entry.isDirectory() && `${key}/`.startsWith(prefix)) yield* walk(root, `${key}/`, prefix)
      else if (entry.isFile() && key.startsWith(prefix)) {
        const lastModified = await modifiedAt(join(root, key))
        if (lastModified !== undefined) yield { key, lastModified }
      }
    }
  } catch (error) {
    if (!absent.has(codeOf(error))) throw toStorageError(error, `list ${basename(root)}/${folder}`)
  }
}

async function removeAbandoned(path: string): Promise<void> {
  const lastModified = await modifiedAt(path)
  if (lastModified !== undefined && Date.now() - lastModified.getTime() > abandonedAfterMs) await rm(path, { force: true })
}

async function modifiedAt(path: string): Promise<Date | undefined> {
  try {
    return (await stat(path)).mtime
  } catch (error) {
    if (absent.has(codeOf(error))) return undefined
    throw error
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function toStorageError(error: unknown, action: string): StorageError {
  if (error instanceof StorageError) return error
  const code = codes[codeOf(error)] ?? 'unavailable'
  return new StorageError(code, `Could not ${action}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
}
