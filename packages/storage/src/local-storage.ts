/**
 * Owns a folder of objects: key `images/a.png` is the file `DIR/images/a.png`, so the folder can be copied, mounted or served as it is.
 *
 * Invariant: a file under its final name is complete. Bytes are written to a temporary file in the same folder and flushed, and the file is
 * then renamed; a reader that has the old file open keeps reading the old bytes. The extension of the file gives its content type.
 * Knows nothing about URLs: the api serves these objects itself. Several processes may share the folder.
 */
import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { open, opendir, rename, rm, stat, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { makeFolder } from '@easel/process/make-folder'
import { deleteOneByOne } from './delete-one-by-one.ts'
import { assertContentType, assertKeyPrefix, assertObjectKey, isObjectKey, toContentType } from './object-key.ts'
import { toReadableBody } from './readable-body.ts'
import type { ListedObject, ObjectStat, PutOptions, Storage, StoredObject } from './storage.ts'
import { StorageError, type StorageErrorCode } from './storage-error.ts'

export interface LocalStorageOptions {
  /** The folder, absolute or relative to the working directory; created if missing. It must lie on one file system. */
  dir: string
}

const temporaryPrefix = '.writing-'
/** A temporary file of this age does not belong to a write in progress: its process was killed. */
const abandonedAfterMs = 3_600_000
/** How many bytes `check` writes, because an empty file would fit on a full disk. */
const probeBytes = 4096

const codes: Record<string, StorageErrorCode> = {
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
  // A file is where a folder should be, or the other way round.
  ENOTDIR: 'denied',
  EEXIST: 'denied',
  EISDIR: 'denied',
  ENOTEMPTY: 'denied',
  ENAMETOOLONG: 'invalid_key',
}
/** The object does not exist: there is no such file, a file where the key has a folder, or a folder with the key's name. */
const absent = new Set(['ENOENT', 'ENOTDIR', 'EISDIR'])

const cannotFlush = new Set(['EINVAL', 'ENOTSUP', 'ENOSYS'])

export class LocalStorage implements Storage {
  readonly kind = 'local'
  readonly #root: string
  /** The folders that were written to, kept open for flushing. The keys of the services lie in only two folders. */
  readonly #folders = new Map<string, Promise<FileHandle>>()

  constructor({ dir }: LocalStorageOptions) {
    this.#root = resolve(dir)
  }

  async put(key: string, bytes: Uint8Array, { contentType, signal }: PutOptions): Promise<void> {
    const path = this.#toPath(key)
    assertContentType(key, contentType)
    signal?.throwIfAborted()
    try {
      await this.#writeAtomically(path, bytes, signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw toStorageError(error, `write ${key}`)
    }
  }

  async open(key: string): Promise<StoredObject | undefined> {
    const path = this.#toPath(key)
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
        return { body, ...toObjectStat(key, stats) }
      } catch (error) {
        await file.close()
        throw error
      }
    } catch (error) {
      if (absent.has(codeOf(error))) return undefined
      throw toStorageError(error, `read ${key}`)
    }
  }

  async stat(key: string): Promise<ObjectStat | undefined> {
    const path = this.#toPath(key)
    try {
      const stats = await stat(path)
      return stats.isFile() ? toObjectStat(key, stats) : undefined
    } catch (error) {
      if (absent.has(codeOf(error))) return undefined
      throw toStorageError(error, `read ${key}`)
    }
  }

  async url(key: string): Promise<undefined> {
    assertObjectKey(key)
    return undefined
  }

  async delete(key: string): Promise<void> {
    const path = this.#toPath(key)
    try {
      await unlink(path)
    } catch (error) {
      if (!absent.has(codeOf(error))) throw toStorageError(error, `delete ${key}`)
    }
  }

  async deleteMany(keys: readonly string[]): Promise<Map<string, StorageError>> {
    return await deleteOneByOne(keys, (key) => this.delete(key))
  }

  list(prefix: string): AsyncIterable<ListedObject> {
    assertKeyPrefix(prefix)
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    return walk(this.#root, folder, prefix)
  }

  async check(): Promise<void> {
    const path = join(this.#root, `.probe-${randomUUID()}`)
    try {
      await this.#writeAtomically(path, Buffer.alloc(probeBytes))
      await rm(path)
    } catch (error) {
      throw toStorageError(error, `write to the folder ${this.#root}`)
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#folders.keys()].map((folder) => this.#closeFolder(folder)))
  }

  #toPath(key: string): string {
    assertObjectKey(key)
    return join(this.#root, key)
  }

  async #writeAtomically(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const folder = dirname(path)
    const temporary = join(folder, `${temporaryPrefix}${randomUUID()}`)
    const file = await open(temporary, 'wx').catch(async (error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error
      await this.#closeFolder(folder)
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
    await this.#flushFolder(folder)
  }

  /** The new name is durable only once the folder is flushed too. Some network and desktop file systems cannot do that and do not need it. */
  async #flushFolder(folder: string): Promise<void> {
    const opening = this.#folders.get(folder) ?? open(folder, 'r')
    this.#folders.set(folder, opening)
    try {
      await (await opening).sync()
    } catch (error) {
      if (cannotFlush.has(codeOf(error))) return
      await this.#closeFolder(folder)
      throw error
    }
  }

  /** Drops the handle of a folder that no longer exists or cannot be opened, so that the folder that takes its place is flushed. */
  async #closeFolder(folder: string): Promise<void> {
    const opened = this.#folders.get(folder)
    this.#folders.delete(folder)
    await opened?.then(
      (handle) => handle.close(),
      () => {},
    )
  }
}

function toObjectStat(key: string, { size, mtime }: Stats): ObjectStat {
  return { contentType: toContentType(key), size, lastModified: mtime }
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
