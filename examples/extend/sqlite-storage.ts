/**
 * A new storage driver: pictures in one SQLite file, for an api and workers on one machine, with the SQLite that comes with Node.js.
 *
 * To make it a part of Easel:
 * 1. packages/storage/src/sqlite-storage.ts: this file, its imports relative; its test as packages/storage/src/local-storage.test.ts has one.
 * 2. packages/storage/src/create-storage.ts: `{ kind: 'sqlite' } & SqliteStorageOptions` in StorageOptions, and the call.
 * 3. packages/storage/src/storage-variables.ts: `sqlite` in STORAGE, a variable for the file, and an entry in `drivers`, which does not
 *    compile without one. `npm run docs` then writes them into docs/variables.md and .env.example.
 *
 * packages/storage/test/conformance.ts tests what every driver must do. Keys are checked before anything else, and every failure of the store is
 * a StorageError, whose code says whether to try again.
 */
import { DatabaseSync } from 'node:sqlite'
import { setImmediate } from 'node:timers/promises'
import { assertContentType, assertKeyPrefix, assertObjectKey, StorageError, toContentType } from '@easel/storage'
import type { ListedObject, ObjectStat, PutOptions, Storage, StorageErrorCode, StoredObject } from '@easel/storage'

export interface SqliteStorageOptions {
  /** The database file, created if missing; its folder must exist. */
  file: string
}

interface ObjectRow {
  key: string
  bytes: Uint8Array
  size: number
  written_at: number
}

/** How many keys `list` reads at once. */
const pageLength = 500
/** SQLite's primary result codes: FULL; READONLY, PERM, CANTOPEN, AUTH. In an extended code, the low byte is the primary one. */
const codes = new Map<number, StorageErrorCode>([[13, 'no_space'], ...[8, 3, 14, 23].map((code): [number, 'denied'] => [code, 'denied'])])

export class SqliteStorage implements Storage {
  readonly kind = 'sqlite'
  readonly #file: string
  #database: DatabaseSync | undefined

  constructor({ file }: SqliteStorageOptions) {
    this.#file = file
  }

  // A statement is a transaction: readers see the old bytes or the new ones.
  async put(key: string, bytes: Uint8Array, { contentType, signal }: PutOptions): Promise<void> {
    assertObjectKey(key)
    assertContentType(key, contentType)
    signal?.throwIfAborted()
    const sql = 'INSERT OR REPLACE INTO objects (key, bytes, size, written_at) VALUES (?, ?, ?, ?)'
    await this.#attempt(`write ${key}`, (database) => database.prepare(sql).run(key, bytes, bytes.length, Date.now()))
  }

  async open(key: string): Promise<StoredObject | undefined> {
    const row = await this.#read(key, '*')
    return row && { body: ReadableStream.from([row.bytes]), ...toStat(row) }
  }

  async stat(key: string): Promise<ObjectStat | undefined> {
    const row = await this.#read(key, 'key, size, written_at')
    return row && toStat(row)
  }

  async url(key: string): Promise<undefined> {
    assertObjectKey(key)
    return undefined
  }

  async delete(key: string): Promise<void> {
    await this.deleteMany([key])
  }

  async deleteMany(keys: readonly string[]): Promise<Map<string, StorageError>> {
    keys.forEach((key) => assertObjectKey(key))
    await this.#attempt('delete', (database) => {
      const statement = database.prepare('DELETE FROM objects WHERE key = ?')
      for (const key of keys) statement.run(key)
    })
    return new Map()
  }

  list(prefix: string): AsyncIterable<ListedObject> {
    assertKeyPrefix(prefix)
    const sql = `SELECT key, size, written_at FROM objects WHERE key >= ? AND key > ? ORDER BY key LIMIT ${pageLength}`
    return listFrom(prefix, async (after) => {
      return await this.#attempt('list objects', (database) => database.prepare(sql).all(prefix, after) as unknown as ObjectRow[])
    })
  }

  async check(): Promise<void> {
    await this.#attempt('write', (database) => {
      try {
        // It is never visible outside this transaction, and no key begins with a dot.
        database.exec("BEGIN IMMEDIATE; INSERT INTO objects VALUES ('.probe', zeroblob(4096), 4096, 0); ROLLBACK")
      } finally {
        if (database.isTransaction) database.exec('ROLLBACK')
      }
    })
  }

  async close(): Promise<void> {
    this.#database?.close()
    this.#database = undefined
  }

  async #read(key: string, columns: string): Promise<ObjectRow | undefined> {
    assertObjectKey(key)
    const sql = `SELECT ${columns} FROM objects WHERE key = ?`
    return await this.#attempt(`read ${key}`, (database) => database.prepare(sql).get(key) as unknown as ObjectRow | undefined)
  }

  /** The file is opened late, so that the first call that needs it reports if it cannot be used. */
  async #attempt<T>(task: string, act: (database: DatabaseSync) => T): Promise<T> {
    // A call of SQLite blocks this thread, so other work gets a turn between two calls.
    await setImmediate()
    try {
      this.#database ??= open(this.#file)
      return act(this.#database)
    } catch (error) {
      const code = codes.get(((error as { errcode?: number }).errcode ?? 0) & 0xff) ?? 'unavailable'
      throw new StorageError(code, `Expected to ${task} in ${this.#file}, got: ${(error as Error).message}`, { cause: error })
    }
  }
}

function toStat({ key, size, written_at }: ObjectRow): ObjectStat {
  return { contentType: toContentType(key), size, lastModified: new Date(written_at) }
}

function open(file: string): DatabaseSync {
  // Waits up to five seconds for another process that is writing.
  const database = new DatabaseSync(file, { timeout: 5000 })
  // WAL: readers do not wait for a writer. FULL: a finished write is on the disk.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  database.exec(
    'CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, bytes BLOB NOT NULL, size INTEGER NOT NULL, written_at INTEGER NOT NULL)',
  )
  return database
}

/** Keys are in the order of their UTF-8 bytes, so keys with the same beginning are adjacent. `read`: a page of rows after a key. */
async function* listFrom(prefix: string, read: (after: string) => Promise<ObjectRow[]>): AsyncGenerator<ListedObject> {
  for (let after = ''; ;) {
    const page = await read(after)
    for (const { key, written_at } of page) {
      if (!key.startsWith(prefix)) return
      yield { key, lastModified: new Date(written_at) }
      after = key
    }
    if (page.length < pageLength) return
  }
}
