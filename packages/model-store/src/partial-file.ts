/**
 * A file that grows until it is complete: its bytes on disk and their hashes.
 *
 * Invariant: the hashes cover everything in the file, including what an earlier process has left there. Knows nothing about where bytes come
 * from.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { SourceFile } from './model-source.ts'

export class PartialFile {
  readonly #handle: FileHandle
  readonly #size: number
  #bytes = 0
  #sha256: Hash
  #gitOid: Hash

  private constructor(handle: FileHandle, size: number) {
    this.#handle = handle
    this.#size = size
    ;[this.#sha256, this.#gitOid] = startHashes(size)
  }

  /** `path`: existing content is kept, unless it is longer than the file should be. */
  static async open(path: string, { size }: SourceFile, signal: AbortSignal): Promise<PartialFile> {
    const handle = await open(path, 'a')
    const file = new PartialFile(handle, size)
    try {
      const { size: present } = await stat(path)
      if (present > size) await handle.truncate(0)
      else for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) file.#count(chunk as Buffer)
      return file
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** The number of bytes so far. */
  get bytes(): number {
    return this.#bytes
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#handle.appendFile(chunk)
    this.#count(chunk)
  }

  /** Discards everything. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#bytes = 0
    ;[this.#sha256, this.#gitOid] = startHashes(this.#size)
  }

  /** Flushes the file to disk, so that it survives a crash of the machine. */
  async flush(): Promise<void> {
    await this.#handle.sync()
  }

  digests(): { sha256: string; gitOid: string } {
    return { sha256: this.#sha256.copy().digest('hex'), gitOid: this.#gitOid.copy().digest('hex') }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  #count(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    this.#sha256.update(chunk)
    this.#gitOid.update(chunk)
  }
}

/** Git hashes the length before the content. */
function startHashes(size: number): [Hash, Hash] {
  return [createHash('sha256'), createHash('sha1').update(`blob ${size}\0`)]
}
